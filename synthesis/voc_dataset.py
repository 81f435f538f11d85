"""``import voc``: a Pascal VOC folder → a dataset of crops with closed questions, split by picture."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from residency.platform.dataset_folder import DatasetCard, write_dataset
from residency.platform.errors import DataError
from residency.platform.media_store import encode_png, load_image
from residency.platform.recipe import DataConfig
from residency.platform.records import Item, Split
from residency.synthesis.blood_questions import BLOOD_CLASSES, BLOOD_NAMING
from residency.synthesis.drafts import Draft, choose_balanced, make_items
from residency.synthesis.voc_crops import Window, cut
from residency.synthesis.voc_questions import ClassRoles, draft_questions, name_classes, task_shares
from residency.synthesis.voc_reader import VocFolder, VocImage, read_voc

NOTE = (
    "Crops of {images} pictures with closed questions, answers balanced within each task; several shifted crops of one"
    " thing are used, so the picture (the cluster) is the unit of any interval, not the crop. Facts and answers come"
    " from the boxes: what the annotators missed is missing here."
)


def import_voc(source: Path, out: Path, config: DataConfig, seed: int) -> Path:
    """Make the dataset folder ``out``; the same folder, configuration and seed give the same content hash.

    Train and tune come from the train list (split by picture), held_out is the val list. Raises DataError before
    anything is written where the folder has a fault (``read_voc``).
    """
    folder = read_voc(source)
    everything = (*folder.train, *folder.val)
    roles = ClassRoles.of(everything) if any(image.boxes for image in everything) else None
    if roles is None:
        raise DataError(f"{source} has no boxes at all", "annotated pictures", "check its Annotations folder")
    blood = {box.name for image in everything for box in image.boxes} == BLOOD_CLASSES
    naming = BLOOD_NAMING if blood else name_classes(everything)
    shares = task_shares(naming, roles)
    items: list[Item] = []
    pngs: dict[str, bytes] = {}
    for split, images, wanted in split_images(folder, config, seed):
        drafts = [draft for image in images for draft in draft_questions(image, naming, roles, seed)]
        chosen = choose_balanced(drafts, wanted, shares, random.Random(f"{seed} {split}"))
        rendered = render_crops(images, chosen, config.image_size)
        items.extend(make_items(chosen, source=folder.name, split=split, licence=folder.licence, pngs=rendered))
        pngs |= rendered
    wanted_counts = {"train": config.train_items, "tune": config.tune_items, "held_out": config.held_out_items}
    short = [
        f" {split} has fewer rows than the {wanted} asked for: a rare answer is used up, and balance goes first."
        for split, wanted in wanted_counts.items()
        if sum(item.split == split for item in items) < wanted
    ]
    card = DatasetCard(
        name=folder.name,
        source=f"Pascal VOC folder {folder.name}",
        licence=folder.licence,
        splits="by picture: train and tune from ImageSets/Main/train.txt, held_out is val.txt",
        note=NOTE.format(images=len(everything)) + "".join(short),
        skipped=folder.skipped,
    )
    return write_dataset(out, items, pngs.values(), card)


def split_images(folder: VocFolder, config: DataConfig, seed: int) -> list[tuple[Split, Sequence[VocImage], int]]:
    """Pictures and wanted rows of each split; tune takes its share of the train list, at least one picture."""
    pictures = sorted(folder.train, key=lambda image: image.stem)
    if len(pictures) < 2:
        raise DataError(f"the train list of {folder.name} has {len(pictures)} pictures", "two or more (one for tune)")
    random.Random(f"{seed} split").shuffle(pictures)
    num_tune = max(1, round(len(pictures) * config.tune_items / (config.tune_items + config.train_items)))
    num_tune = min(num_tune, len(pictures) - 1)
    return [
        (Split.TRAIN, pictures[num_tune:], config.train_items),
        (Split.TUNE, pictures[:num_tune], config.tune_items),
        (Split.HELD_OUT, folder.val, config.held_out_items),
    ]


def render_crops(images: Iterable[VocImage], drafts: Sequence[Draft], size: int) -> dict[str, bytes]:
    """PNG bytes of every crop that the drafts show, by picture key; each source picture is decoded once."""
    windows: dict[str, dict[str, Window]] = {}
    for draft in drafts:
        if draft.picture is not None:
            windows.setdefault(draft.cluster, {})[draft.picture] = Window(*draft.annotations["window"])
    pngs: dict[str, bytes] = {}
    for image in images:
        if image.stem in windows:
            picture = load_image(image.path)
            for key, window in windows[image.stem].items():
                pngs[key] = encode_png(cut(picture, window, size))
    return pngs
