"""The whole loop with every real part, killed in its middle and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from residency.platform.dataset_folder import read_dataset
from residency.platform.journal.reader import read_state
from residency.platform.journal.state import Stage
from residency.platform.records import Split
from residency.synthesis.pipeline.ledger import read_ledger

SMALL = {
    "data.train_items": 320, "data.tune_items": 24, "data.held_out_items": 40, "synthesis.warm_up_steps": 70,
    "synthesis.items": 60, "mixture.examples": 480, "sft.max_steps": 70, "sft.evaluate_every": 35,
    "difficulty.items": 48, "difficulty.samples": 6, "rl.steps": 3, "rl.prompts_per_step": 8, "evaluation.samples": 2,
    "evaluation.bootstrap_resamples": 200, "student.max_new_tokens": 64, "student.pretraining_steps": 20,
}  # fmt: skip
START_SECONDS, WHOLE_SECONDS = 420, 900


def command(run: Path) -> list[str]:
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "residency.platform.cli.app", "run", "starter", "--run", str(run), *settings]


def stages(run: Path) -> list[str]:
    path = run / "journal" / "stages.jsonl"
    return [json.loads(line)["stage"] for line in path.read_text().splitlines()] if path.is_file() else []


def trained_steps(run: Path) -> int:
    """Optimizer steps of RL that are journalled, read while the driver lives."""
    return read_state(run / "journal").learner("rl").step if (run / "journal").is_dir() else 0


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def kill_when(run: Path, reached: Callable[[Path], bool], log: Path, environment: dict[str, str]) -> None:
    """Start the run and kill its driver with SIGKILL as soon as it is so far."""
    with log.open("w") as file:
        driver = subprocess.Popen(command(run), stdout=file, stderr=file, env=environment)
        deadline = time.monotonic() + START_SECONDS
        try:
            while not reached(run):
                assert driver.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, f"not so far after {START_SECONDS} s: {log.read_text()[-1000:]}"
                time.sleep(0.2)
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait(30)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run whose driver is killed after `synthesize`, and again inside RL, and that then finishes."""
    folder = tmp_path_factory.mktemp("loop")
    run = folder / "run"
    environment = dict(os.environ, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a" * 64)
    kill_when(run, lambda run: "synthesize" in stages(run), folder / "first.log", environment)
    kill_when(run, lambda run: trained_steps(run) > 1, folder / "second.log", environment)
    done = subprocess.run(
        [*command(run), "--json"], capture_output=True, text=True, timeout=WHOLE_SECONDS, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == json.loads((run / "summary.json").read_text()), "one document, nothing else"
    (folder / "third.log").write_text(done.stderr)
    return run


@pytest.mark.timeout(1500)
def test_finished_stages_are_not_repeated(finished_run: Path) -> None:
    done = stages(finished_run)
    assert done == ["data", "student", "pretrain", "warm_up", "synthesize", "sft", "difficulty", "rl", "evaluate"]
    assert "synthesize: finished before, not repeated" in (finished_run.parent / "second.log").read_text()
    assert "difficulty: finished before, not repeated" in (finished_run.parent / "third.log").read_text()


def test_each_group_entered_one_step_and_only_what_was_in_flight_was_asked_again(finished_run: Path) -> None:
    state = read_state(finished_run / "journal")
    assert len(state.opened) == 3
    steps = list(state.learner("rl").steps())
    assert [step for (_, step), _ in steps] == [1, 2, 3]
    assert len({incarnation for (incarnation, _), _ in steps}) == 1, "the last driver replayed from the SFT checkpoint"
    keys = [key for _, kept in steps for key in kept]
    assert len(keys) == len(set(keys))
    # every group that RL was to draw, by the prompts file alone, was admitted in its step, trained on or dropped
    prompts = json.loads((finished_run / "lineage" / "prompts.json").read_text())
    number = SMALL["rl.prompts_per_step"]
    due = {f"rl-{step:04d}/{prompts[(step * number + n) % len(prompts)]}" for step in range(3) for n in range(number)}
    admitted = {key for key in state.keys if key.startswith("rl-")}
    assert admitted == due
    dropped = {key for key in admitted if state.keys[key].stage is Stage.DROPPED}
    assert admitted == dropped | set(keys)
    # the first step was journalled before the second kill: its groups were never asked again
    assert all(state.keys[key].asked == 1 for key in admitted if key.startswith("rl-0000/"))
    assert all(progress.asked <= 2 for progress in state.keys.values())
    assert not [key for key, progress in state.keys.items() if progress.stage < Stage.JUDGED]


def test_a_step_that_is_replayed_comes_out_the_same(finished_run: Path) -> None:
    """Equal ranks and threads on the recorded tokens: bit for bit the loss and the gradient of the first time."""
    rows = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    written = {(row["step"], row["name"]): row["value"] for row in rows if row["role"] == "rl"}
    replayed = events(finished_run, "step_replayed")
    assert [event["step"] for event in replayed] == [0, 1]
    for event in replayed:
        for name in ("loss", "grad_norm"):
            assert event[name] == written[event["step"], name]


def test_weights_and_rollouts_passed_as_object_references(finished_run: Path) -> None:
    updates = events(finished_run, "weights_updated")
    assert {update["label"] for update in updates} >= {"warm_up", "sft", "rl@1", "rl@2", "rl@3", "base", "rl"}
    for update in updates:
        assert update["references"]
        assert len(update["references"]) == len(update["digests"])
    versions = {update["version"]: update["digests"] for update in updates if update["label"].startswith("rl@")}
    assert len({tuple(digests) for digests in versions.values()}) == 4, "rl@0 to rl@3, the same after a restart"
    rollouts = events(finished_run, "rollouts_passed")
    assert len({row["reference"] for row in rollouts}) == len(rollouts)
    assert all(row["bytes"] > 0 and row["rollouts"] > 0 for row in rollouts)


def test_every_sampled_trace_is_on_disk_with_its_verdict(finished_run: Path) -> None:
    for stage, number in (("synthesize-1", 60 * 4), ("difficulty", 48 * 6), ("rl-0000", None)):
        ids: dict[str, list[str]] = {}
        for kind, column in (("traces", "id"), ("verdicts", "trace_id")):
            ids[kind] = []
            for path in sorted((finished_run / kind).glob(f"part-{stage}-*.arrow")):
                with pa.memory_map(str(path)) as source:
                    ids[kind] += pa.ipc.open_file(source).read_all().column(column).to_pylist()
        assert len(ids["traces"]) == len(set(ids["traces"]))
        if number is None:  # groups of 8; a prompt is drawn once a step, and few items may be worth drawing
            assert len(ids["traces"]) in range(8, 8 * 8 + 1, 8)
        else:
            assert len(ids["traces"]) == number
        assert ids["traces"] == ids["verdicts"]


def test_the_summary_holds_rows_of_every_checkpoint_and_their_comparisons(finished_run: Path) -> None:
    summary = json.loads((finished_run / "summary.json").read_text())
    rows = summary["evaluation"]
    for checkpoint in ("base", "sft", "rl"):
        for decoding in ("greedy", "sampled"):
            row = next(
                r for r in rows if (r["checkpoint"], r["decoding"], r["image"]) == (checkpoint, decoding, "true")
            )
            assert row["n"] == 40 * (2 if decoding == "sampled" and checkpoint != "base" else 1)
            assert row["ci95"][0] <= row["accuracy"] <= row["ci95"][1]
    pairs = {(row["a"], row["b"], row["decoding"]) for row in summary["comparisons"]}
    assert pairs >= {("rl", "sft", "sampled"), ("rl", "sft", "greedy"), ("sft", "sft@blank", "greedy")}
    assert summary["rl"]["steps"] == 3
    assert set(summary["seconds"]) == set(stages(finished_run))


def test_every_image_condition_and_both_profiles_stand_beside_the_score(finished_run: Path) -> None:
    summary = json.loads((finished_run / "summary.json").read_text())
    rows = summary["evaluation"]
    assert {row["profile"].rpartition("-")[0] for row in rows} == {"strict", "medevalkit"}
    for image in ("true", "blank", "shuffled", "none"):
        assert [row for row in rows if (row["checkpoint"], row["image"], row["prompt_mode"]) == ("rl", image, "think")]
    worth = [row for row in summary["comparisons"] if row["b"] == "sft@blank"]
    items = read_dataset(finished_run / "data").split(Split.HELD_OUT)
    assert [row["questions"] for row in worth] == [sum(bool(item.media) for item in items)], "text has no image to lose"
    assert (finished_run / "evaluation" / "results.md").read_text().startswith("# Results")


def test_predictions_are_kept_and_rescoring_asks_nothing(finished_run: Path) -> None:
    (folder,) = finished_run.glob("evaluation/*/rl-think-sampled-true")
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 40 * 2
    assert all({"question", "gold", "text"} <= line.keys() for line in lines)
    before = json.loads((finished_run / "summary.json").read_text())
    asked = len(read_state(finished_run / "journal").keys)
    scores = folder.glob("outcomes-*.parquet")
    for path in scores:  # what is kept is not believed: it is made anew
        pl.read_parquet(path).with_columns(correct=pl.lit(True)).write_parquet(path)
    command_line = [*command(finished_run), "--rescore", "--json"]
    command_line[command_line.index("run")] = "evaluate"
    done = subprocess.run(command_line, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    after = json.loads(done.stdout)
    assert after["evaluation"] == before["evaluation"]
    assert after["comparisons"] == before["comparisons"]
    assert len(read_state(finished_run / "journal").keys) == asked


def test_a_run_is_compared_with_itself_question_by_question(finished_run: Path) -> None:
    command_line = [sys.executable, "-m", "residency.platform.cli.app", "compare", str(finished_run), str(finished_run)]
    done = subprocess.run([*command_line, "--json"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert len(found["comparisons"]) >= 15
    assert all(row["difference"] == 0 == row["ci95"][0] == row["ci95"][1] for row in found["comparisons"])
    assert found["not_compared"] == []


def test_a_model_alone_sits_imported_boards(finished_run: Path, tmp_path: Path) -> None:
    """`recipes/boards.yaml` on two imported exams; a question that is too long is named, and costs nobody else."""
    residency = [sys.executable, "-m", "residency.platform.cli.app"]
    rows = [{"question": f"is {a} mg more than {b} mg?", "A": "yes", "B": "no", "answer": "A" if a > b else "B"}
            for a in range(4) for b in range(4) if a != b]  # fmt: skip
    rows[5]["question"] = "how many cells are there? " * 400
    for name, kept in (("long", rows), ("short", rows[:4])):
        source = tmp_path / f"{name}.jsonl"
        source.write_text("\n".join(json.dumps(row) for row in kept))
        done = subprocess.run(
            [*residency, "import", "exam", str(source), str(tmp_path / name)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    run = tmp_path / "run"
    settings = {
        "student.model": finished_run / "checkpoints" / "rl", "student.max_prompt_tokens": 192,
        "student.max_new_tokens": 32, "data.source": tmp_path / "long", "evaluation.profile": "medevalkit",
        "evaluation.datasets": f"[{tmp_path / 'short'}]",
    }  # fmt: skip
    done = subprocess.run(
        [*residency, "evaluate", "boards", "--run", str(run), "--json"]
        + [part for key, value in settings.items() for part in ("--set", f"{key}={value}")],
        capture_output=True, text=True, timeout=WHOLE_SECONDS, check=False,
        env=dict(os.environ, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a" * 64),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout)
    assert stages(run) == ["data", "student", "evaluate"]
    leading = [row for row in summary["evaluation"] if row["profile"].startswith("medevalkit")]
    assert leading == summary["evaluation"][: len(leading)]
    assert {(row["checkpoint"], row["prompt_mode"], row["decoding"]) for row in leading} == {
        ("base", "think", "greedy"), ("base", "direct", "greedy")
    }  # fmt: skip
    assert {(row["n"], row["errors"]) for row in summary["evaluation"]} == {(11, 1), (4, 0)}
    (line,) = [
        json.loads(line)
        for path in run.glob("evaluation/*/base-direct-greedy-true/predictions.jsonl")
        for line in path.read_text().splitlines()
        if json.loads(line)["finish_reason"] == "refused"
    ]
    assert "refused the request of item" in line["text"]


@contextmanager
def scripted_endpoint(dataset: Path, doubtful: list[str]) -> Iterator[str]:
    """The address of an endpoint that knows the dataset's answers, of doubtful items by halves."""
    script = Path(__file__).parent / "scripted_endpoint.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(dataset), *doubtful],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.timeout(1500)
def test_the_papers_recipe_runs_on_tiny_folders(finished_run: Path, tmp_path: Path) -> None:
    """`recipes/infimed-3b.yaml` from end to end: tiny models stand in for student and stronger teacher, an endpoint
    that knows the answers (of every third item by halves) for the first teacher and for the gates'."""
    models = finished_run / "checkpoints"
    run = tmp_path / "run"
    dataset = read_dataset(finished_run / "data")
    first = [item.id for item in dataset.split(Split.TRAIN)][:24]
    settings = {
        "student.model": models / "sft", "student.max_prompt_tokens": 512, "student.max_new_tokens": 64,
        "data.source": finished_run / "data", "data.duplicates.hash_distance": "null",
        "data.duplicates.within_split": "false", "data.gates.rubric": "true",
        "synthesis.teachers.2.model": models / "rl", "synthesis.samples": 4, "synthesis.items": 24,
        "synthesis.max_tokens": 96,
        "mixture.scale": 0.001, "sft.batch_size": 16, "sft.max_steps": 4, "sft.evaluate_every": 4,
        "difficulty.items": 32, "difficulty.samples": 4, "rl.steps": 1, "rl.prompts_per_step": 4, "rl.group_size": 4,
        "evaluation.samples": 0, "evaluation.images": "[]", "evaluation.bootstrap_resamples": 200,
    }  # fmt: skip
    residency = [sys.executable, "-m", "residency.platform.cli.app"]
    with scripted_endpoint(finished_run / "data", doubtful=first[::3]) as url:
        endpoint = f"{{kind: openai, model: scripted, url: '{url}'}}"
        settings |= {"data.gates.teacher": endpoint, "synthesis.teachers.1": endpoint}
        overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        checked = subprocess.run(
            [*residency, "check", "infimed-3b", *overrides], capture_output=True, text=True, timeout=120, check=False
        )
        assert checked.returncode == 0, checked.stderr[-2000:]
        assert "What will run where" in checked.stderr
        assert "identifying_text, image_sanity, rubric" in checked.stderr
        done = subprocess.run(
            [*residency, "run", "infimed-3b", "--run", str(run), "--json", *overrides],
            capture_output=True, text=True, timeout=WHOLE_SECONDS, check=False,
            env=dict(os.environ, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="a" * 64),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert stages(run) == ["data", "student", "synthesize", "sft", "difficulty", "rl", "evaluate"]
    summary = json.loads(done.stdout)
    assert summary["gates"]["items"] == summary["gates"]["kept"] == len(dataset.items)
    assert len(read_ledger(run / "gates" / "rubric")) == len(dataset.items), "each was rated once"
    ledger = read_ledger(run / "synthesis").to_pylist()
    assert len({row["item_id"] for row in ledger}) == 24
    asked = {(row["teacher"], row["strategy"]) for row in ledger}
    assert asked >= {("scripted", "sampled"), ("scripted", "reanswer"), ("rl", "with_reference")}
    assert {row["item_id"] for row in ledger if row["strategy"] == "with_reference"} == set(first[::3])
    accepted = {row["item_id"] for row in ledger if row["decision"] == "accepted"}
    assert accepted >= set(first) - set(first[::3])
    assert summary["synthesis"]["teachers"]["accepted"] == len(accepted)
    examples = pl.read_parquet(run / "examples.parquet")
    sampled = {row["trace_id"] for row in ledger if row["decision"] == "accepted"}
    taught = examples.filter(pl.col("target") == "cot")["from_traces"].explode()
    assert sampled & set(taught), "what the endpoint said is taught"
    assert summary["synthesis"]["mixture"]["total"] <= 188
    assert sum(summary["synthesis"]["teachers"].values()) + summary["synthesis"]["dead_letters"] >= 24
    assert set(summary["synthesis"]["mixture"]["wanted_families"]) == {
        "medical_multimodal", "general_multimodal", "textual_reasoning"
    }  # fmt: skip
    assert {row["checkpoint"] for row in summary["evaluation"]} == {"base", "sft", "rl"}


def test_every_example_has_its_story(finished_run: Path) -> None:
    """From a reflective example of the mixture back to the wrong trace that was really sampled."""
    examples = pl.read_parquet(finished_run / "examples.parquet")
    example = examples.filter(pl.col("target") == "reflective").row(0, named=True)
    command_line = [sys.executable, "-m", "residency.platform.cli.app", "trace", example["id"], "--run"]
    done = subprocess.run(
        [*command_line, str(finished_run), "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    story = json.loads(done.stdout)
    assert story["mixture"]["place"] == examples["id"].to_list().index(example["id"])
    wrong = next(row for row in story["traces"] if row["trace_id"] == example["from_traces"][0])
    assert (wrong["teacher"], wrong["accuracy"], wrong["used"]) == ("policy", 0.0, True)
    assert wrong["text"].startswith(story["example"]["not_learned"])


def test_the_report_is_whole_and_by_itself(finished_run: Path) -> None:
    page = (finished_run / "report.html").read_text()
    assert "<html" in page
    assert 'src="http' not in page
    assert "data:image/png;base64," in page


def test_sampler_and_trainer_agreed(finished_run: Path) -> None:
    """fp32 on CPU: a mean difference of logprobs above 1e-5 would be a bug, not noise (STACK)."""
    lines = [json.loads(line) for line in (finished_run / "metrics.jsonl").read_text().splitlines()]
    mismatch = [line["value"] for line in lines if line["name"] == "mismatch_mean"]
    assert mismatch
    assert max(mismatch) < 1e-5


def test_checkpoints_load_in_plain_transformers_and_plain_vllm(finished_run: Path) -> None:
    """No code of ours but the import hook for torchvision; both complete a text prompt greedily to the same tokens."""
    script = Path(__file__).with_name("plain_completion.py")
    environment = dict(os.environ, VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0")
    done = subprocess.run(
        [sys.executable, str(script), str(finished_run / "checkpoints" / "rl")],
        capture_output=True, text=True, timeout=240, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "SAME" in done.stdout


def test_serve_picks_the_checkpoint_that_is_best_on_tune(finished_run: Path) -> None:
    from residency.platform.cli.serve_command import best_checkpoint
    from residency.platform.run_folder import RunFolder

    summary = json.loads((finished_run / "summary.json").read_text())
    name, folder = best_checkpoint(RunFolder(finished_run))
    scores = {"sft": summary["sft"]["best_tune_accuracy"], "rl": summary["rl"]["tune_accuracy"]}
    assert scores[name] == max(scores.values())
    assert (folder / "model.safetensors").is_file()
