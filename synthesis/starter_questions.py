"""Closed questions about a tile with drawn lesions: modality, present, side, count and box."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from residency.platform.records import AnswerKind, Family
from residency.synthesis.drafts import Draft
from residency.synthesis.starter_lesions import GRID_CELLS, Lesion
from residency.synthesis.starter_sources import MODALITIES, SOURCES, Pixels, Tile

GRAINY_FROM = 6.0  # mean step between neighbouring pixels of the scaled tile, in grey levels
HUE_SPREAD, COLOURED_RATIO = 40, 0.03  # grey levels between channels of a coloured pixel; share of such pixels


def texture(ground: Pixels) -> str:
    """``smooth`` or ``grainy``, by the mean absolute step between neighbours in a row."""
    grey = ground.astype(np.float64).mean(axis=2)
    return "grainy" if float(np.abs(np.diff(grey, axis=1)).mean()) >= GRAINY_FROM else "smooth"


def colour(ground: Pixels, of_coloured_parts: str) -> str:
    """``grey`` where hardly a pixel has a hue, else the picture's own colour word."""
    spread = ground.max(axis=2).astype(np.int16) - ground.min(axis=2)
    return of_coloured_parts if float((spread > HUE_SPREAD).mean()) >= COLOURED_RATIO else "grey"


def draft_tile_questions(tile: Tile, ground: Pixels, lesions: Sequence[Lesion]) -> list[Draft]:
    """Every question that this tile answers; ``ground`` is the scaled tile without lesions."""
    source = SOURCES[tile.source]
    cluster = f"{tile.split}:{tile.key}"
    annotations = {
        "source_picture": tile.source,
        "tile": [tile.x, tile.y, tile.edge],
        "lesions": [
            {"cell": [one.column + 1, one.row + 1], "size": one.size, "tone": one.tone, "box": _outline(one)}
            for one in lesions
        ],
    }
    ask = partial(_draft, annotations=annotations, cluster=cluster, licence=source.licence)
    facts = {"colour": colour(ground, source.colour), "texture": texture(ground)}
    modality = ask(
        "modality", "which kind of picture is this ?", source.modality, AnswerKind.CHOICE, facts, options=MODALITIES
    )
    if source.has_own_spots:
        return [modality]
    facts = {side: str(sum(one.side == side for one in lesions)) for side in ("left", "right")}
    count = ask("lesion_count", "how many spots are there ?", str(len(lesions)), AnswerKind.NUMBER, facts)
    drafts = [modality, count]
    if len(lesions) > 1:
        return drafts
    lesion = lesions[0] if lesions else None
    drafts.append(
        ask(
            "lesion_present", "is there a spot ?", "yes" if lesion else "no", AnswerKind.YES_NO,
            {"tone": lesion.tone if lesion else "none", "size": lesion.size if lesion else "none"},
        )
    )  # fmt: skip
    if lesion is None:
        return drafts
    column, box = str(lesion.column + 1), json.dumps([lesion.quarter_box], separators=(",", ":"))
    height = "upper" if lesion.row < GRID_CELLS // 2 else "lower"
    return [
        *drafts,
        ask(
            "lesion_side", "is the spot on the left or on the right ?", lesion.side, AnswerKind.CHOICE,
            {"tone": lesion.tone, "height": height, "column": column}, options=("left", "right"),
        ),
        ask(
            "lesion_box", "which quarter of the picture holds the spot ? give its box .",
            box, AnswerKind.BOX, {"side": lesion.side, "height": height},
        ),
    ]  # fmt: skip


def _outline(lesion: Lesion) -> list[float]:
    corners = (
        lesion.x - lesion.radius_x,
        lesion.y - lesion.radius_y,
        lesion.x + lesion.radius_x,
        lesion.y + lesion.radius_y,
    )
    return [round(corner, 3) for corner in corners]


def _draft(
    task: str,
    question: str,
    answer: str,
    kind: AnswerKind,
    facts: Mapping[str, str],
    *,
    options: tuple[str, ...] = (),
    annotations: Mapping[str, Any],
    cluster: str,
    licence: str,
) -> Draft:
    return Draft(
        task=task,
        family=Family.MEDICAL_MULTIMODAL,
        question=question,
        options=options,
        answer=answer,
        answer_kind=kind,
        facts=facts,
        annotations=annotations,
        cluster=cluster,
        row_key=f"{cluster}:{task}",
        picture=cluster,
        licence=licence,
        balance_by=answer,
    )
