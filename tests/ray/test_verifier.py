"""The verifier as an actor: verdicts by object reference, its process replaced and ended."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from residency.actors.verifier import VerifierHealth, start_verifier
from residency.platform.arrow_tables import from_table, to_table
from residency.platform.errors import DataError
from residency.platform.profiles import RoleConfig
from residency.platform.prompts import prompt_hash, render_completion, render_prompt
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Status, Trace, Verdict, short_hash

DEADLINE_SECONDS = 120
CHOICE = Item(
    id="choice", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="which?",
    options=("ct", "mr"), answer="mr", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip
NUMBER = replace(CHOICE, id="number", options=(), answer="500 mg", answer_kind=AnswerKind.NUMBER)
BOX = replace(CHOICE, id="box", options=(), answer="[[0, 0, 1, 1]]", answer_kind=AnswerKind.BOX)


def traces_of(*answered: tuple[Item, str]) -> pa.Table:
    mode = PromptMode.THINK
    traces = [
        Trace(
            id=short_hash(item.id, str(n)), item_id=item.id, role="policy", model="base", prompt_mode=mode,
            prompt_hash=prompt_hash(render_prompt(item, mode)), seed=0, sample_index=n, finish_reason="stop",
            text=render_completion(answer, mode, "grey"),
        )
        for n, (item, answer) in enumerate(answered)
    ]  # fmt: skip
    return to_table(traces, Trace)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_verdicts_by_reference_and_no_process_left_behind(ray_cluster: Any) -> None:
    verifier = start_verifier(placement=RoleConfig(cpus=0.1), **ray_cluster.on(ray_cluster.right))
    traces = traces_of((CHOICE, "mr"), (NUMBER, "0.5 g"), (BOX, "[[0, 0, 1, 0.4]]"), (CHOICE, "dog"), (CHOICE, "mr"))
    reasons = pa.array(["stop"] * 4 + ["refused"])  # the engine did not take the last one: nobody may score it
    traces = traces.set_column(traces.column_names.index("finish_reason"), "finish_reason", reasons)
    items = to_table([BOX, CHOICE, NUMBER], Item)
    answer = verifier.judge.remote(ray.put(traces), ray.put(items), RewardConfig())
    verdicts = from_table(ray.get(answer, timeout=DEADLINE_SECONDS), Verdict)
    assert [v.trace_id for v in verdicts] == traces.column("id").to_pylist()
    assert [v.score for v in verdicts] == [1.0, 1.0, 0.1, 0.1, None]
    assert [v.status for v in verdicts] == [Status.SCORED] * 3 + [Status.ABSTAINED, Status.ERROR]
    assert verdicts[2].parts["iou"] == pytest.approx(0.4)
    health: VerifierHealth = ray.get(verifier.health.remote(), timeout=DEADLINE_SECONDS)
    assert (health.num_judged, health.num_starts, health.num_faults) == (5, 1, 0)
    child = health.child_pid
    assert child is not None
    assert alive(child)
    ray.kill(verifier)  # without close: the judge must notice by itself
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not alive(child)


def test_items_that_cannot_be_judged_are_refused_as_such(ray_cluster: Any) -> None:
    verifier = start_verifier(num_cpus=0.1, **ray_cluster.on(ray_cluster.left))
    report = replace(CHOICE, id="report", answer_kind=AnswerKind.REPORT)
    for items, traces, reason in (
        ([CHOICE], traces_of((CHOICE, "mr"), (NUMBER, "3")), "the first number"),
        ([report], traces_of((report, "x")), "does not exist yet"),
    ):
        with pytest.raises(DataError, match=reason):
            ray.get(verifier.judge.remote(traces, to_table(items, Item), RewardConfig()), timeout=DEADLINE_SECONDS)
    ray.get(verifier.close.remote(), timeout=DEADLINE_SECONDS)


def test_a_users_rule_that_crashes_gives_a_verdict_without_score(ray_cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "crashing_rules.py").write_text(
        "import os\n"
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n"
        "    return os._exit(7) if 'crash' in solution_str else float(f'>{ground_truth}<' in solution_str)\n"
    )
    verifier = start_verifier(num_cpus=0.1, runtime_env={"env_vars": {"PYTHONPATH": str(tmp_path)}})
    reward = RewardConfig(verifier="crashing_rules:compute_score", interface="verl")
    traces = traces_of((CHOICE, "mr"), (CHOICE, "crash"), (CHOICE, "ct"))
    answer = verifier.judge.remote(traces, to_table([CHOICE], Item), reward)
    verdicts = from_table(ray.get(answer, timeout=DEADLINE_SECONDS), Verdict)
    assert [(v.status, v.score) for v in verdicts] == [
        (Status.SCORED, 1.0), (Status.ERROR, None), (Status.SCORED, 0.1)
    ]  # fmt: skip
    assert "exit code 7" in verdicts[1].evidence
    assert {v.verifier for v in verdicts} == {"crashing_rules:compute_score"}
    report = replace(CHOICE, id="report", answer_kind=AnswerKind.REPORT)  # no rule of ours, and no business of ours
    answer = verifier.judge.remote(traces_of((report, "mr")), to_table([report], Item), reward)
    assert [v.score for v in from_table(ray.get(answer, timeout=DEADLINE_SECONDS), Verdict)] == [1.0]
    ray.get(verifier.close.remote(), timeout=DEADLINE_SECONDS)
