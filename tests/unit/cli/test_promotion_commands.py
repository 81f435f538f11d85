"""`residency promote` and `rollback` where every answer is on disk: runs that have sat their boards, and no Ray."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from residency.platform.cli.promote_command import RefusedError, promote_command, read_share
from residency.platform.cli.rollback_command import rollback_command
from residency.platform.cli.stages.sittings import Sitting, folder_of, note_sitting
from residency.platform.dataset_folder import DatasetCard, read_dataset, write_dataset
from residency.platform.errors import BadInputError, ModelError
from residency.platform.profiles import load_profile
from residency.platform.recipe import DataConfig, EvaluationConfig, Recipe
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Trace
from residency.platform.registry.registry import Registry
from residency.platform.run_folder import RunFolder
from residency.platform.shipped import find
from residency.training.evaluation.predictions import predictions_table, write_predictions

QUESTIONS = 40
Promote = Callable[..., dict[str, Any]]
app = typer.Typer()
app.command("promote")(promote_command)
app.command("rollback")(rollback_command)


def make_items() -> list[Item]:
    return [
        Item(
            id=f"q{number}", content_key=f"k{number}", source="made", split=Split.HELD_OUT, licence="CC0-1.0",
            cluster=f"c{number}", question=f"is sample {number} round?", answer="yes", answer_kind=AnswerKind.YES_NO,
            family=Family.MEDICAL_MULTIMODAL,
        )
        for number in range(QUESTIONS)
    ]  # fmt: skip


def make_run(folder: Path, rights: Mapping[str, int], *, later: float = 10.0) -> RunFolder:
    """A run whose checkpoints got so many of the 40 questions right; answers are ``later`` seconds than the weights."""
    run, items = RunFolder(folder), make_items()
    recipe = Recipe(
        name="made", data=DataConfig(format="dataset", source=str(run.data)),
        evaluation=EvaluationConfig(bootstrap_resamples=300),
    )  # fmt: skip
    run.open(recipe, load_profile(find("profiles", "laptop")))
    write_dataset(run.data, items, [], DatasetCard(name="board", source="-", licence="CC0-1.0", splits="-"))
    board = read_dataset(run.data)
    for name, right in rights.items():
        model = run.checkpoints / name
        model.mkdir(parents=True)
        header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
        (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes([right]))
        (model / "config.json").write_text("{}")
        for mode in (PromptMode.THINK, PromptMode.DIRECT):
            sitting = Sitting(board="board", checkpoint=name, prompt_mode=mode)
            said = ["yes" if number < right else "no" for number in range(QUESTIONS)]
            traces = [
                Trace(
                    id=f"{name}-{mode}-{item.id}", item_id=item.id, role="policy", model=name, prompt_mode=mode,
                    prompt_hash="-", seed=0, sample_index=0, finish_reason="stop",
                    text=word if mode is PromptMode.DIRECT else f"<think>It looks so.</think><answer>{word}</answer>",
                )
                for item, word in zip(items, said, strict=True)
            ]  # fmt: skip
            write_predictions(
                folder_of(run, sitting) / "predictions", predictions_table(items, traces, "board", 0), items
            )
            note_sitting(run, sitting, board.card.content_hash)
            noted = (model / "model.safetensors").stat().st_mtime + later
            os.utime(folder_of(run, sitting) / "sitting.json", (noted, noted))
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run", {"base": 20, "sft": 30, "rl": 31, "rl_permuted": 10})


@pytest.fixture
def promote(tmp_path: Path) -> Promote:
    """``promote(run, checkpoint, …)``: the document that the command prints; raises what it raises."""

    def promote(run: RunFolder, checkpoint: str, *more: str) -> dict[str, Any]:
        done = CliRunner().invoke(
            app, ["promote", str(run.path), "--checkpoint", checkpoint, "--registry", str(tmp_path / "blood"), "--json",
                  *more],
        )  # fmt: skip
        if done.exception is not None:
            raise done.exception
        return json.loads(done.stdout)

    return promote


def test_a_better_checkpoint_is_promoted_on_paired_evidence(run: RunFolder, promote: Promote, tmp_path: Path) -> None:
    first = promote(run, "base", "--who", "anna", "--reason", "the first")
    assert (first["version"], first["state"], first["stable"]) == ("v1", "stable", "v1")
    assert {(row["prompt_mode"], row["accuracy"]) for row in first["evidence"]} == {("think", 0.5), ("direct", 0.5)}
    second = promote(run, "sft", "--who", "ben")
    assert (second["version"], second["stable"]) == ("v2", "v2")
    assert [row["difference"] for row in second["evidence"]] == pytest.approx([0.25, 0.25])
    assert all(row["questions"] == QUESTIONS for row in second["evidence"])
    registry = Registry(tmp_path / "blood")
    version = registry.read().versions["v2"]
    assert (version.run, version.checkpoint, version.who) == (str(run.path), "sft", "ben")
    assert version.evidence == second["evidence"]
    assert [(change.kind, change.who, change.reason) for change in registry.history()] == [
        ("promoted", "anna", "the first"), ("promoted", "ben", "")
    ]  # fmt: skip


def test_a_significant_loss_is_refused_and_the_reason_kept(run: RunFolder, promote: Promote, tmp_path: Path) -> None:
    promote(run, "sft")
    with pytest.raises(
        RefusedError, match=r"v2 .* is refused: board \(direct\): -50\.0 points, 95 % interval"
    ) as error:
        promote(run, "rl_permuted")
    assert error.value.exit_code == 1
    register = Registry(tmp_path / "blood").read()
    assert (register.stable, register.versions["v2"].state.value) == ("v1", "refused")
    assert "-50.0 points" in Registry(tmp_path / "blood").history()[-1].reason
    assert not (tmp_path / "blood" / "versions" / "v2").exists()
    assert promote(run, "rl")["state"] == "stable", "one question more: no loss"


def test_a_canary_first_then_stable_by_the_same_command(run: RunFolder, promote: Promote, tmp_path: Path) -> None:
    promote(run, "sft")
    trial = promote(run, "rl", "--canary", "10%")
    assert (trial["state"], trial["stable"], trial["canary"]) == ("canary", "v1", "v2")
    with pytest.raises(BadInputError, match="v2 .* is the canary"):
        promote(run, "base")
    assert promote(run, "rl")["stable"] == "v2"
    done = CliRunner().invoke(app, ["rollback", "--registry", str(tmp_path / "blood"), "--json"])
    assert json.loads(done.stdout)["stable"] == "v1"
    assert Registry(tmp_path / "blood").history()[-1].details["left"] == "v2"


def test_what_is_on_call_is_not_promoted_again(run: RunFolder, promote: Promote) -> None:
    promote(run, "sft")
    with pytest.raises(BadInputError, match=r"these weights are on call, as v1 \(sft of"):
        promote(run, "sft")
    with pytest.raises(BadInputError, match="one of the run's: base, rl, rl_permuted, sft"):
        promote(run, "step-10")


def test_what_is_on_call_must_be_what_was_promoted(run: RunFolder, promote: Promote, tmp_path: Path) -> None:
    promote(run, "sft")
    (tmp_path / "blood" / "versions" / "v1" / "config.json").write_text('{"changed": true}')
    with pytest.raises(ModelError, match=r"was changed after it was promoted as v1: config\.json"):
        promote(run, "rl")


def test_answers_older_than_the_weights_do_not_count(tmp_path: Path) -> None:
    """The checkpoint was trained on after it had sat the boards: it has to sit them again."""
    from residency.platform.cli.stages.sittings import is_sat
    from residency.platform.cli.version_boards import Examination, take_over

    for later, counts in ((10.0, True), (-10.0, False)):
        old = make_run(tmp_path / f"run{later}", {"sft": 30}, later=later)
        exam, into = Examination.of(old), RunFolder(tmp_path / f"answers{later}")
        take_over(exam, "sft", into)
        assert [is_sat(into, sitting) for _, sitting in exam.sittings] == [counts, counts]


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("0.25", 0.25), ("2.5%", 0.025)])
def test_shares(text: str, share: float) -> None:
    assert read_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0%", "100%", "a tenth", "1.5", "-3%"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(BadInputError, match="write --canary 10%"):
        read_share(text)
