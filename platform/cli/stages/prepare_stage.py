"""Data in, and a student to teach."""

from pathlib import Path

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.gate_items import gate_items
from residency.platform.cluster import run_task
from residency.platform.dataset_folder import read_dataset
from residency.platform.preflight import check_model
from residency.platform.recipe import DataConfig
from residency.platform.records import Split

MEASURED_PICTURES = 256  # whose pixel statistics the student's processor takes
DATA_SEED = 0  # the data are the same for all seeds of a recipe, so that their answers can be paired


async def data_stage(crew: Crew) -> None:
    """``imported/``: made, imported, or linked to; ``data/``: what of it passes the gates and is no copy."""
    config, imported = crew.recipe.data, crew.run.imported
    if config.format == "dataset":
        source = Path(str(config.source)).resolve()
        read_dataset(source)  # every mistake now, before any hour is spent
        if not imported.is_symlink():
            imported.symlink_to(source, target_is_directory=True)
    elif not imported.exists():
        with crew.screen.steps(f"data: {config.format}", 1, "datasets") as steps:
            await run_task(make_dataset, imported, config, what="making the dataset", seconds=crew.deadline)
            steps.advance()
    crew.run.point_data(imported)
    await gate_items(crew)
    crew.run.update_summary(
        data={"name": crew.dataset.card.name, "counts": dict(crew.dataset.card.counts), "note": crew.dataset.card.note,
              "clusters": dict(crew.dataset.card.clusters), "content_hash": crew.dataset.card.content_hash}
    )  # fmt: skip


def make_dataset(target: Path, config: DataConfig) -> None:
    """Runs in a worker: the importers' libraries stay out of the driver."""
    from residency.synthesis.importers import FORMATS

    FORMATS[config.format].run(Path(config.source) if config.source else None, target, config, DATA_SEED)


async def student_stage(crew: Crew) -> None:
    """``checkpoints/base``: the tiny student built on the spot, or a link to a real model's folder.

    A tiny student that is to be pretrained is built as ``checkpoints/initial``; the next stage makes its base.
    """
    config = crew.recipe.student
    model, base = config.model, crew.checkpoint("base")
    if model == "tiny":
        base = crew.checkpoint("initial") if config.is_pretrained_here else base
        with crew.screen.steps("building the student", 1, "models") as steps:
            await run_task(
                build_tiny, base, crew.run.data, crew.seed, crew.recipe.data.image_size,
                what="building the student", seconds=crew.deadline,
            )  # fmt: skip
            steps.advance()
        return
    mistakes = check_model(model)
    if mistakes:
        raise mistakes[0]
    base.parent.mkdir(parents=True, exist_ok=True)
    if not base.is_symlink():
        base.symlink_to(Path(model).resolve(), target_is_directory=True)


def build_tiny(base: Path, data: Path, seed: int, image_size: int) -> None:
    """Runs in a worker: torch and transformers stay out of the driver."""
    from residency.synthesis.student_texts import student_texts
    from residency.training.student import build_student

    dataset = read_dataset(data)
    shown = list(dict.fromkeys(key for item in dataset.split(Split.TRAIN) for key in item.media))[:MEASURED_PICTURES]
    pictures = [dataset.media.open_image(key) for key in shown]
    build_student(base, student_texts(dataset.items, DATA_SEED), seed, image_size, pictures)
