"""The verifier: traces and their items in, verdicts out. A thin actor around a judge in a process of its own."""

import os
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from residency.platform.arrow_tables import from_table, to_table
from residency.platform.errors import DataError
from residency.platform.placement import actor_options
from residency.platform.profiles import RoleConfig
from residency.platform.recipe import RewardConfig
from residency.platform.records import REFUSED, Item, PromptMode, Verdict
from residency.platform.verifiers.isolation import IsolatedJudge
from residency.platform.verifiers.judge_request import JudgeLimits, JudgeRequest
from residency.platform.verifiers.refusal import refusal_verdict
from residency.platform.verifiers.rules import check_item

JUDGED_COLUMNS = ["id", "item_id", "prompt_mode", "text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifierHealth:
    """What the verifier has done; ``num_starts`` counts judge processes, ``num_faults`` samples without a score."""

    pid: int
    child_pid: int | None
    num_judged: int
    num_starts: int
    num_faults: int


def requests_of(traces: pa.Table, items: list[Item], own: bool) -> list[JudgeRequest]:
    """One request a trace; raises DataError where a trace's item is missing or our rules could not judge it.

    What a user's ``own`` verifier can judge is its own business.
    """
    by_id = {item.id: item for item in items}
    ids, item_ids, modes, texts = (traces.column(name).to_pylist() for name in JUDGED_COLUMNS)
    wanted = set(item_ids)
    if absent := sorted(wanted - by_id.keys()):
        raise DataError(f"traces of {len(absent)} items that were not given, the first {absent[0]}", "all their items")
    for item_id in () if own else wanted:
        check_item(by_id[item_id])
    return [
        JudgeRequest(item=by_id[item_id], trace_id=trace_id, text=text, mode=PromptMode(mode))
        for trace_id, item_id, mode, text in zip(ids, item_ids, modes, texts, strict=True)
    ]


class VerifierActor:
    """Judges batches; a sample that breaks its judge gets ``error`` or ``timeout``, without a score."""

    def __init__(self, limits: JudgeLimits | None = None) -> None:
        self._judge = IsolatedJudge(limits)
        self._num_judged = 0

    def judge(self, traces: pa.Table, items: pa.Table, reward: RewardConfig) -> pa.Table:
        """Trace table and Item table (more items do no harm) → Verdict table, one row a trace, in their order.

        ``reward`` says by which verifier and how the score is composed; another verifier means another process.
        """
        requests = requests_of(traces, from_table(items, Item), own=reward.verifier is not None)
        reasons = traces.column("finish_reason").to_pylist()
        answered = [request for request, reason in zip(requests, reasons, strict=True) if reason != REFUSED]
        judged = iter(self._judge.judge(answered, reward))
        verdicts = [
            refusal_verdict(request.trace_id, request.text) if reason == REFUSED else next(judged)
            for request, reason in zip(requests, reasons, strict=True)
        ]
        self._num_judged += len(verdicts)
        return to_table(verdicts, Verdict)

    def health(self) -> VerifierHealth:
        judge = self._judge
        return VerifierHealth(
            pid=os.getpid(),
            child_pid=judge.child_pid,
            num_judged=self._num_judged,
            num_starts=judge.num_starts,
            num_faults=judge.num_faults,
        )

    def close(self) -> None:
        """Kill the judge's process."""
        self._judge.close()


def start_verifier(
    *,
    placement: RoleConfig | None = None,
    limits: JudgeLimits | None = None,
    **options: Any,
) -> Any:
    """Handle of a new verifier; ``placement`` gives CPUs and labels, ``options`` are further Ray actor options."""
    placed = {} if placement is None else actor_options(placement)
    return ray.remote(VerifierActor).options(**{**placed, **options}).remote(limits)
