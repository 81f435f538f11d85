import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from residency.platform.arrow_tables import write_parquet
from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Item, PromptMode, Status, Trace, Verdict
from residency.training.evaluation.comparisons import evaluation_row
from residency.training.evaluation.predictions import (
    PREDICTION_SCHEMA,
    predictions_table,
    read_predictions,
    rescore,
    write_predictions,
)
from residency.training.evaluation.scoring.profiles import ScoringProfile, find_profile

MakeItem = Callable[..., Item]


def make_trace(number: int, text: str, *, mode: PromptMode = PromptMode.DIRECT, sample: int = 0) -> Trace:
    return Trace(
        id=f"t{number}-{sample}",
        item_id=f"q{number}",
        role="policy",
        model="sft",
        prompt_mode=mode,
        prompt_hash="h",
        seed=99,
        sample_index=sample,
        text=text,
        finish_reason="stop",
    )


def loud_score(item: Item, trace_id: str, text: str, mode: PromptMode) -> Verdict:
    """Right where the answer is shouted; abstains on silence."""
    return Verdict(
        trace_id=trace_id,
        status=Status.SCORED if text else Status.ABSTAINED,
        score=None,
        parts={"accuracy": float(text == item.answer.upper()), "format": float(mode is PromptMode.DIRECT)},
        evidence=f"heard {text!r}",
        verifier="loud",
        verifier_version="1",
    )


LOUD = ScoringProfile(name="loud", version="1", prompt=lambda item, mode: item.question, score=loud_score)


def test_predictions_come_back_as_they_were_written(tmp_path: Path, make_item: MakeItem) -> None:
    items = [make_item(0), make_item(1, question="左侧?", answer_kind=AnswerKind.CHOICE, options=("yes", "no"))]
    traces = [make_trace(0, "yes\nno"), make_trace(1, "是 \u2028 \x00", mode=PromptMode.THINK, sample=1)]
    table = predictions_table(items, traces, dataset="starter", seed=3)
    assert table.columns == list(PREDICTION_SCHEMA)
    assert table.row(1, named=True)["cluster"] == "image1"
    assert table["seed"].to_list() == [3, 3]  # the run's, not the sampler's
    write_predictions(tmp_path / "sat-1.5" / "predictions", table, items)
    assert sorted(path.name for path in (tmp_path / "sat-1.5").iterdir()) == [
        "predictions.jsonl",
        "predictions.parquet",
    ]
    assert read_predictions(tmp_path / "sat-1.5" / "predictions.parquet").equals(table)
    lines = [json.loads(line) for line in (tmp_path / "sat-1.5" / "predictions.jsonl").read_text().split("\n")[:-1]]
    assert [line["text"] for line in lines] == table["text"].to_list()
    assert (lines[1]["question"], lines[1]["options"], lines[1]["gold"]) == ("左侧?", ["yes", "no"], "yes")


def test_rescoring_needs_the_profile_only(make_item: MakeItem) -> None:
    items = [make_item(number) for number in range(3)]
    texts = ["YES", "yes", ""]
    predictions = predictions_table(items, [make_trace(n, text) for n, text in enumerate(texts)], "starter", 0)
    outcomes = rescore(predictions, items, LOUD)
    assert outcomes["correct"].to_list() == [True, False, False]
    assert outcomes["status"].to_list() == ["scored", "scored", "abstained"]
    assert outcomes["evidence"][0] == "heard 'YES'"
    assert outcomes["trace_id"].to_list() == predictions["trace_id"].to_list()
    labels = {"dataset": "starter", "seed": 0, "prompt_mode": "direct", "decoding": "greedy", "image": "true"}
    row = evaluation_row(outcomes, checkpoint="sft", profile=LOUD.label, **labels)
    assert (row["n"], row["correct"], row["abstained"], row["profile"]) == (3, 1, 1, "loud-1")


def test_two_profiles_read_the_same_predictions(make_item: MakeItem) -> None:
    item = make_item(0, question="is it normal?", answer="no")
    said = [make_trace(0, "no", sample=0), make_trace(0, "it is normal", sample=1)]
    predictions = predictions_table([item], said, "starter", 0)
    assert rescore(predictions, [item], find_profile("strict"))["correct"].to_list() == [True, False]
    assert rescore(predictions, [item], find_profile("medevalkit"))["correct"].to_list() == [True, True]


def test_predictions_of_another_dataset_are_refused(make_item: MakeItem) -> None:
    predictions = predictions_table([make_item(0)], [make_trace(0, "yes")], "starter", 0)
    with pytest.raises(DataError, match="answers item q0, which is not among the 1 items given"):
        rescore(predictions, [make_item(1)], LOUD)
    with pytest.raises(DataError, match="trace t7-0 answers item q7"):
        predictions_table([make_item(0)], [make_trace(7, "yes")], "starter", 0)


def test_what_is_no_file_of_predictions_is_refused(tmp_path: Path, make_item: MakeItem) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_predictions(tmp_path / "predictions.parquet")
    table = predictions_table([make_item(0)], [make_trace(0, "yes")], "starter", 0)
    table.write_parquet(tmp_path / "bare.parquet")
    with pytest.raises(DataError, match="schema_version none"):
        read_predictions(tmp_path / "bare.parquet")
    table.write_parquet(tmp_path / "newer.parquet", metadata={"schema_version": "99"})
    with pytest.raises(DataError, match="schema_version 99"):
        read_predictions(tmp_path / "newer.parquet")
    write_parquet(
        table.drop("text").to_arrow().replace_schema_metadata({"schema_version": "1"}), tmp_path / "x.parquet"
    )
    with pytest.raises(DataError, match=r"lacks the columns \['text'\]"):
        read_predictions(tmp_path / "x.parquet")


def test_a_question_that_the_engine_refused_is_an_error_of_ours_with_its_reason(make_item: MakeItem) -> None:
    items = [make_item(0), make_item(1)]
    refused = replace(make_trace(1, "the engine refused it: too long"), finish_reason="refused")
    table = predictions_table(items, [make_trace(0, items[0].answer), refused], dataset="starter", seed=0)
    for profile in ("strict", "medevalkit"):
        answered, lost = rescore(table, items, find_profile(profile)).iter_rows(named=True)
        assert (answered["status"], answered["correct"]) == ("scored", True)
        assert (lost["status"], lost["correct"], lost["evidence"]) == (
            "error",
            False,
            "the engine refused it: too long",
        )
