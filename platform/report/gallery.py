"""Pictures with their question, what checkpoints really answered, and the verdicts; and examples of what was taught."""

import base64
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from PIL import Image

from residency.platform.arrow_tables import read_parquet
from residency.platform.media_store import MediaStore
from residency.platform.reasoning import split_reasoning
from residency.platform.records import AnswerKind, Example, Item, Target
from residency.platform.report.run_files import Row, read_judged, stages_with_traces

MAX_EDGE = 420  # pixels of a picture on the page; larger ones are made smaller
SITTING = re.compile(r"evaluate-(?P<checkpoint>base|sft|rl)-think-(?P<decoding>sampled|greedy)-true")
CHECKPOINT_ORDER = ("base", "sft", "rl")
SAMPLES_SHOWN = {"base": 1, "sft": 1}  # on one card; two of every other checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One sampled trace with its verdict. ``outcome`` is right, wrong, abstained or error."""

    checkpoint: str
    reasoning: str
    answer: str
    text: str
    outcome: str
    valid_format: bool
    evidence: str
    cut_off: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    item: Item
    gold: str
    pictures: tuple[str, ...]  # data URLs
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One SFT example: ``unlearned`` is the part before ``loss_start``, ``learned`` what the loss covers."""

    example: Example
    prompt: str
    pictures: tuple[str, ...]
    unlearned: str
    learned: str


class Pictures:
    """Pictures of a dataset as data URLs, each encoded once."""

    def __init__(self, data: Path) -> None:
        self._store = MediaStore(data / "media")
        self._urls: dict[str, str] = {}

    def urls(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Those of the pictures that are in the dataset."""
        return tuple(self._url(key) for key in keys if key in self._store)

    def _url(self, key: str) -> str:
        if key not in self._urls:
            png = self._store.read_png(key)
            with Image.open(io.BytesIO(png)) as image:
                if max(image.size) > MAX_EDGE:
                    image.thumbnail((MAX_EDGE, MAX_EDGE))
                    buffer = io.BytesIO()
                    image.save(buffer, format="PNG")
                    png = buffer.getvalue()
            self._urls[key] = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        return self._urls[key]


def read_items(run: Path) -> dict[str, Item]:
    """The run's items by id; empty where it has no dataset yet."""
    path = run / "data" / "items.parquet"
    return {item.id: item for item in read_parquet(path, Item)} if path.is_file() else {}


def judged_traces(run: Path) -> pl.DataFrame:
    """Evaluation traces on true images with their verdicts and ``checkpoint``, sampled ones where there are any.

    A run that was not evaluated shows what it sampled in its other stages, under the name of the trace's model.
    """
    stages = stages_with_traces(run)
    sittings = {stage: match for stage in stages if (match := SITTING.fullmatch(stage))}
    sampled = {stage: match["checkpoint"] for stage, match in sittings.items() if match["decoding"] == "sampled"}
    chosen = sampled or {stage: match["checkpoint"] for stage, match in sittings.items()}
    others = [stage for stage in stages if not stage.startswith("evaluate-")][:3]
    frames = []
    for stage in chosen or others:
        checkpoint = pl.lit(chosen[stage]) if stage in chosen else pl.col("model")
        frames.append(read_judged(run, stage).with_columns(checkpoint=checkpoint))
    return pl.concat(frames) if frames else pl.DataFrame()


def to_answer(row: Row) -> Answer:
    """One row of ``judged_traces`` as it is shown."""
    reasoning, answer = split_reasoning(row["text"])
    outcome = row["status"] if row["status"] != "scored" else "right" if row["accuracy"] >= 1.0 else "wrong"
    return Answer(
        checkpoint=row["checkpoint"],
        reasoning=reasoning,
        answer=answer,
        text=row["text"],
        outcome="error" if outcome == "timeout" else outcome,
        valid_format=row["format"] >= 1.0,
        evidence=row["evidence"],
        cut_off=row["finish_reason"] == "length",
    )


def choose_cards(frame: pl.DataFrame, items: Mapping[str, Item], number: int) -> list[str]:
    """Item ids for the gallery: tasks in turn, and in each right, wrong and abstained answers of the best checkpoint.

    Chosen by a fixed rule, not by hand: within a kind the first by item id.
    """
    if frame.is_empty():
        return []
    present = set(frame["checkpoint"].unique().to_list())
    best = next((name for name in reversed(CHECKPOINT_ORDER) if name in present), sorted(present)[0])
    rows = frame.filter((pl.col("checkpoint") == best) & (pl.col("sample_index") == 0)).sort("item_id")
    pools: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows.iter_rows(named=True):
        item = items.get(row["item_id"])
        if item is not None:
            pools[str(item.metadata.get("task", "")), to_answer(row).outcome].append(item.id)
    tasks = sorted({task for task, _ in pools})
    chosen: dict[str, None] = {}
    for turn in range(number):
        for outcome in ("wrong", "right", "abstained") if turn % 2 else ("right", "abstained", "wrong"):
            for task in tasks:
                pool = pools.get((task, outcome), [])
                if turn < len(pool) and len(chosen) < number and (outcome != "abstained" or turn == 0):
                    chosen[pool[turn]] = None
    return list(chosen)


def gallery(run: Path, items: Mapping[str, Item], pictures: Pictures, number: int = 15) -> list[Card]:
    """Cards with the answers of base, SFT and RL to the same question."""
    frame = judged_traces(run)
    chosen = choose_cards(frame, items, number)
    answers: dict[str, list[Answer]] = defaultdict(list)
    if chosen:
        limit = pl.col("checkpoint").replace_strict(SAMPLES_SHOWN, default=2, return_dtype=pl.Int64)
        shown = frame.filter(pl.col("item_id").is_in(chosen) & (pl.col("sample_index") < limit))
        for row in shown.sort("sample_index").iter_rows(named=True):
            answers[row["item_id"]].append(to_answer(row))
    order = {name: index for index, name in enumerate(CHECKPOINT_ORDER)}
    return [
        Card(
            item=items[key],
            gold=readable_gold(items[key]),
            pictures=pictures.urls(items[key].media),
            answers=tuple(sorted(answers[key], key=lambda answer: order.get(answer.checkpoint, 9))),
        )
        for key in chosen
    ]


def readable_gold(item: Item) -> str:
    """The right answer for people: a box in whole percent of the picture, everything else as it is."""
    if item.answer_kind is not AnswerKind.BOX:
        return item.answer
    boxes = json.loads(item.answer)
    return "; ".join(", ".join(f"{100 * edge:.0f}" for edge in box) for box in boxes) + " (% of the picture)"


def lessons(examples: Sequence[Example], items: Mapping[str, Item], pictures: Pictures) -> list[Lesson]:
    """One example of each target, and one of each reflective strategy, preferring different tasks."""
    chosen: dict[tuple[str, str | None], Example] = {}
    tasks: Counter[str] = Counter()
    for example in examples:
        key = (example.target.value, example.pattern if example.target is Target.REFLECTIVE else None)
        item = items.get(example.item_id)
        task = str(item.metadata.get("task", "")) if item else ""
        if key not in chosen and (tasks[task] == 0 or tasks.total() >= len(tasks) + 40):
            chosen[key] = example
            tasks[task] += 1
    for example in examples:  # kinds that met only tasks already shown
        key = (example.target.value, example.pattern if example.target is Target.REFLECTIVE else None)
        chosen.setdefault(key, example)
    order = {target.value: index for index, target in enumerate(Target)}
    found = []
    for key in sorted(chosen, key=lambda key: (order[key[0]], key[1] or "")):
        example = chosen[key]
        user = next((str(message["content"]) for message in example.messages if message["role"] == "user"), "")
        said = str(example.messages[-1]["content"])
        found.append(
            Lesson(
                example=example,
                prompt=user,
                pictures=pictures.urls(example.media),
                unlearned=said[: example.loss_start],
                learned=said[example.loss_start :],
            )
        )
    return found


def strategy_pairs(examples: Sequence[Example]) -> tuple[list[str], list[tuple[str, list[int]]]]:
    """How often each error kind met each strategy in the mixture: (strategies, rows of counts)."""
    pairs = Counter(
        (example.error_kind or "unknown", example.pattern or "unknown")
        for example in examples
        if example.target is Target.REFLECTIVE
    )
    strategies = sorted({strategy for _, strategy in pairs})
    errors = sorted({error for error, _ in pairs})
    return strategies, [(error, [pairs[error, strategy] for strategy in strategies]) for error in errors]
