"""``starter``: a dataset made on the spot, with no download, in all three families of the method."""

import random
from pathlib import Path

from PIL import Image

from residency.platform.dataset_folder import DatasetCard, write_dataset
from residency.platform.media_store import encode_png
from residency.platform.recipe import DataConfig
from residency.platform.records import Item, Split
from residency.synthesis.drafts import Draft, choose_balanced, make_items
from residency.synthesis.starter_arithmetic import draft_sums
from residency.synthesis.starter_lesions import Lesion, draw_lesions, place_lesions
from residency.synthesis.starter_questions import draft_tile_questions
from residency.synthesis.starter_shapes import Shape, draft_shape_questions, draw_shapes
from residency.synthesis.starter_sources import MODALITIES, SOURCES, Tile, check_disjoint, cut_tile, draw_tile

SOURCE = "residency-starter"
TASK_SHARES = {
    "modality": 0.1,
    "lesion_present": 0.34,
    "lesion_side": 0.12,
    "lesion_count": 0.12,
    "lesion_box": 0.05,
    "shape_name": 0.06,
    "shape_colour": 0.08,
    "shape_on_side": 0.03,
    "dose_total": 0.03,
    "dose_limit": 0.04,
    "unit_convert": 0.03,
}
NOTE = (
    "A tutorial set, not a benchmark: no figure from it says anything about medicine. The spots are drawn, not"
    " pathology. Tiles of one picture share a source, so tiles are not independent, and a real claim needs real data."
    " Modality is saturated by design and no part of a claim. Train, tune and held-out tiles share no source pixel"
    " (checked pixel by pixel when the set is made). Held-out sums differ from those of training in the drug or in a"
    " number, not in kind."
)


def make_starter(out: Path, config: DataConfig, seed: int) -> Path:
    """Make the dataset folder ``out``; the same configuration and seed give the same content hash.

    Raises DataError where tiles of two splits would share a source pixel.
    """
    items: list[Item] = []
    pngs: dict[str, bytes] = {}
    tiles: list[Tile] = []
    wanted = {Split.TRAIN: config.train_items, Split.TUNE: config.tune_items, Split.HELD_OUT: config.held_out_items}
    for split, total in wanted.items():
        rng = random.Random(f"{seed} {split}")
        scenes = draw_scenes(split, max(total, 200), config.image_size, rng)
        drafts = [draft for tile, lesions in scenes.values() for draft in _ask(tile, lesions, config.image_size)]
        shape_drafts, shapes = draft_shape_questions(split, max(total // 6, 60), rng)
        chosen = choose_balanced([*drafts, *shape_drafts, *draft_sums(split)], total, TASK_SHARES, rng)
        rendered = _render(chosen, scenes, shapes, config.image_size)
        tiles.extend(scenes[key][0] for key in rendered if key in scenes)
        items.extend(make_items(chosen, source=SOURCE, split=split, licence="see the item", pngs=rendered))
        pngs |= rendered
    check_disjoint(tiles)
    licences = "; ".join(f"{source.name}: {source.licence}" for source in SOURCES.values())
    card = DatasetCard(
        name="starter",
        source="pictures that come inside pydicom and scikit-image, with drawn spots; drawn shapes; written sums",
        licence=f"by picture: {licences}; drawn shapes and sums: CC0",
        splits="by region of each source picture; cluster = tile; shapes by picture, sums by text",
        note=NOTE,
    )
    return write_dataset(out, items, pngs.values(), card)


def draw_scenes(split: Split, count: int, size: int, rng: random.Random) -> dict[str, tuple[Tile, tuple[Lesion, ...]]]:
    """Tiles with their lesions by picture key, the modalities in turn; a tile that was drawn before is left out."""
    scenes: dict[str, tuple[Tile, tuple[Lesion, ...]]] = {}
    for number in range(count):
        tile = draw_tile(MODALITIES[number % len(MODALITIES)], split, rng)
        lesions = () if SOURCES[tile.source].has_own_spots else place_lesions(cut_tile(tile, size), rng)
        scenes.setdefault(f"{tile.split}:{tile.key}", (tile, lesions))
    return scenes


def _ask(tile: Tile, lesions: tuple[Lesion, ...], size: int) -> list[Draft]:
    return draft_tile_questions(tile, cut_tile(tile, size), lesions)


def _render(
    drafts: list[Draft],
    scenes: dict[str, tuple[Tile, tuple[Lesion, ...]]],
    shapes: dict[str, list[Shape]],
    size: int,
) -> dict[str, bytes]:
    pngs: dict[str, bytes] = {}
    for key in sorted({draft.picture for draft in drafts if draft.picture is not None}):
        if key in scenes:
            tile, lesions = scenes[key]
            picture = Image.fromarray(draw_lesions(cut_tile(tile, size), lesions))
        else:
            picture = draw_shapes(shapes[key], size)
        pngs[key] = encode_png(picture)
    return pngs
