"""What `residency serve` was given, as states: a run's best checkpoint, a model folder, a recipe's run, a registry."""

from pathlib import Path

from residency.platform.errors import BadInputError
from residency.platform.registry.registry import Registry
from residency.platform.run_folder import RunFolder
from residency.platform.serving.serving_state import ServingState, parse_state


def best_checkpoint(run: RunFolder) -> tuple[str, Path]:
    """The checkpoint with the higher greedy accuracy on the tune split (RL where they are level, it came later)."""
    summary = run.summary()
    scores: dict[str, float] = {}
    for name, key in (("rl", "tune_accuracy"), ("sft", "best_tune_accuracy")):
        if key in summary.get(name, {}) and (run.checkpoints / name / "config.json").is_file():
            scores[name] = summary[name][key]
    if not scores:
        raise BadInputError(
            f"{run.path} has no checkpoint with a score on the tune split", "a run that finished `sft`", "run it first"
        )
    best = max(scores, key=lambda name: scores[name])
    return best, run.checkpoints / best


def served_state(target: Path) -> ServingState:
    """What is on call for one argument of `residency serve`; raises BadInputError for a folder that is none of them."""
    from residency.actors.serving.starting import single_state

    if is_registry(target):
        return registry_state(Registry(target))
    if target.suffix in (".yaml", ".yml"):
        return run_state(recipe_run(target))
    if (target / "summary.json").is_file():
        return run_state(target)
    if (target / "config.json").is_file():
        return single_state(target, target.absolute().name)
    raise BadInputError(
        f"{target} is neither a run nor a model folder, a registry or a recipe",
        "a folder with summary.json (a run), config.json (a model) or registry.json (a registry), or a recipe's file",
        "give the --run of a finished run",
    )


def is_registry(target: Path) -> bool:
    """Whether it is a folder of versions that `residency promote` fills."""
    return (target / "registry.json").is_file()


def run_state(run: Path) -> ServingState:
    """The best checkpoint of a run; of one with several seeds, of the first."""
    from residency.actors.serving.starting import single_state

    seeds = sorted(run.glob("seed-*"))
    checkpoint, folder = best_checkpoint(RunFolder(seeds[0] if seeds else run))
    return single_state(folder, f"{run.absolute().name}-{checkpoint}")


def recipe_run(recipe: Path) -> Path:
    """The folder that `residency run RECIPE` writes to by default."""
    from residency.platform.recipe_file import read_yaml

    run = Path("runs") / str(read_yaml(recipe).get("name", recipe.stem))
    if not (run / "summary.json").is_file():
        raise BadInputError(f"{recipe} has no finished run in {run}", "one", f"residency run {recipe}")
    return run


def registry_state(registry: Registry) -> ServingState:
    """What is on call in a registry now."""
    return parse_state(registry.serving_state(registry.read_existing()))
