"""Kept predictions scored again: 100,000 answers from Parquet to evaluation rows, under every scoring profile.

Usage: ``python benchmarks/rescoring.py [--predictions 100000]``. Choice, yes or no, short, number and open questions
in equal parts, half reasoned and half direct; answers are right, wrong, wordy, in the wrong form, or cut off. The time
counts reading the file, every verdict, the table of outcomes, the row and its slices; the goal is for all profiles
together. A bare pass over the same file (read, and each text looked at once) is the floor.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from reporting import report

from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split
from residency.training.evaluation.comparisons import evaluation_row
from residency.training.evaluation.predictions import PREDICTION_SCHEMA, read_predictions, rescore, write_predictions
from residency.training.evaluation.scoring.profiles import PROFILES, ScoringProfile
from residency.training.evaluation.slices import slice_rows

GOAL_SECONDS = 30.0
SAMPLES = 4  # answers to each question
CACHE = Path(__file__).resolve().parent.parent / ".cache"
FINDINGS = (
    "pleural effusion", "left lower lobe pneumonia", "cardiomegaly", "pneumothorax", "rib fracture", "lung nodule",
    "hiatal hernia", "pulmonary oedema", "adrenal haemorrhage", "normal chest radiograph", "tension pneumothorax",
)  # fmt: skip
THOUGHT = (
    "The {} is seen on this image. The border is smooth and the density is that of fluid, so it is not a mass.",
    "First the mediastinum: it is not widened. Then the lungs: {} cannot be ruled out on one view alone. Wait, the"
    " other side has to be looked at as well, and there the vessels reach the chest wall.",
    "Nothing normal about it; {} is likely, because the costophrenic angle is blunted. " * 6,
)
WORDY = ("The answer is {}.", "{}", "I would say that it is {}", "**{}**", "Final answer: {}", "{} (most likely)")


def make_item(number: int, generator: random.Random) -> Item:
    """One question; the kinds take turns."""
    kind = (AnswerKind.CHOICE, AnswerKind.YES_NO, AnswerKind.SHORT, AnswerKind.NUMBER, AnswerKind.OPEN)[number % 5]
    finding = generator.choice(FINDINGS)
    options: tuple[str, ...] = ()
    match kind:
        case AnswerKind.CHOICE:
            options = tuple(generator.sample(FINDINGS, 4))
            question, answer = "Which finding is shown?", generator.choice(options)
        case AnswerKind.YES_NO:
            question, answer = f"Is there a {finding}?", generator.choice(("yes", "no"))
        case AnswerKind.SHORT:
            question, answer = "What is the diagnosis?", finding
        case AnswerKind.NUMBER:
            question, answer = "How large is the lesion?", f"{generator.randint(2, 90)} mm"
        case _:
            question = "Describe what is seen."
            answer = f"{finding} with {generator.choice(FINDINGS)} and no {generator.choice(FINDINGS)}"
    return Item(
        id=Item.make_id("made-up", "held_out", str(number)),
        content_key=f"key{number}",
        source="made-up",
        split=Split.HELD_OUT,
        licence="CC0",
        cluster=f"image{number // 3}",
        question=question,
        options=options,
        answer=answer,
        answer_kind=kind,
        family=Family.MEDICAL_MULTIMODAL,
        metadata={"modality": ("ct", "mri", "x-ray")[number % 3], "organ": finding},
    )


def make_text(item: Item, mode: PromptMode, generator: random.Random) -> str:
    """What a model might have said: about half of it right."""
    wrong = {
        AnswerKind.CHOICE: item.options or FINDINGS,
        AnswerKind.YES_NO: ("yes", "no", "normal"),
        AnswerKind.NUMBER: ("3 cm", "about 12", "4.5 mm"),
    }.get(item.answer_kind, FINDINGS)
    said = item.answer if generator.random() < 0.5 else generator.choice(wrong)
    if item.options and generator.random() < 0.5 and said in item.options:
        said = f"{'ABCD'[item.options.index(said)]}. {said}"
    said = generator.choice(WORDY).format(said)
    if mode is PromptMode.DIRECT:
        return said
    thought = generator.choice(THOUGHT).replace("{}", generator.choice(FINDINGS))
    draw = generator.random()
    if draw < 0.1:
        return f"<think>{thought}"
    return (
        f"<think>{thought}</think> \\boxed{{{said}}}"
        if draw < 0.4
        else f"<think>{thought}</think><answer>{said}</answer>"
    )


def make_predictions(number: int) -> tuple[list[Item], pl.DataFrame]:
    """Items and the table of their predictions, the same at each call."""
    generator = random.Random(0)
    items = [make_item(index, generator) for index in range(-(-number // SAMPLES))]
    rows = []
    for index in range(number):
        item = items[index // SAMPLES]
        mode = PromptMode.THINK if index // SAMPLES % 2 else PromptMode.DIRECT
        rows.append(
            {
                "item_id": item.id,
                "dataset": "made-up",
                "cluster": item.cluster,
                "sample_index": index % SAMPLES,
                "seed": 0,
                "prompt_mode": mode.value,
                "text": make_text(item, mode, generator),
                "finish_reason": "stop",
                "trace_id": f"trace{index}",
            }
        )
    return items, pl.DataFrame(rows, schema=dict(PREDICTION_SCHEMA))


def measure(path: Path, items: list[Item], profile: ScoringProfile) -> dict[str, Any]:
    """Seconds from the file to the row and its slices, and what they say."""
    began, began_cpu = time.perf_counter(), time.process_time()
    outcomes = rescore(read_predictions(path), items, profile)
    labels = {"checkpoint": "rl", "dataset": "made-up", "seed": 0, "prompt_mode": "think", "decoding": "sampled"}
    labels |= {"image": "true", "profile": profile.label}
    row = evaluation_row(outcomes, **labels)
    slices = slice_rows(outcomes, items, **labels)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    if row["n"] + row["errors"] != outcomes.height or not slices:
        raise SystemExit(f"{row['n']} scored and {row['errors']} errors of {outcomes.height} predictions")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "predictions_per_second": round(outcomes.height / seconds),
        "accuracy": round(row["accuracy"], 4),
        "abstained": row["abstained"],
        "errors": row["errors"],
        "slices": len(slices),
    }


def main() -> None:
    """Measure every profile and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=int, default=100_000, help="how many are scored")
    number = parser.parse_args().predictions
    items, table = make_predictions(number)
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rescoring-", dir=CACHE) as name:
        path = Path(name) / "predictions"
        write_predictions(path, table, items)
        path = path.with_name("predictions.parquet")
        began = time.perf_counter()
        characters = sum(len(text) for text in read_predictions(path)["text"])
        floor = time.perf_counter() - began
        found = {}
        for profile in PROFILES.values():
            found[profile.label] = measure(path, items, profile)
            print(f"{profile.label}: {found[profile.label]}", file=sys.stderr)
    seconds = round(sum(measured["seconds"] for measured in found.values()), 2)
    details = {
        "predictions": number,
        "characters": characters,
        "questions": len(items),
        "bare_read_seconds": round(floor, 3),
        "profiles": found,
    }
    report("rescoring", seconds, "s, all profiles together", GOAL_SECONDS, seconds <= GOAL_SECONDS, details)


if __name__ == "__main__":
    main()
