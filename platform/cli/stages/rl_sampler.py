"""Generators and verifiers as the controller of reinforcement learning sees them: a call out, judged groups back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.sampling import Sampled, key_of, plan_chunks, refuse_faults, sample_chunk
from residency.platform.cli.stages.step_batch import permuted_scores
from residency.platform.journal.records import Dropped, Record
from residency.platform.journal.state import Stage
from residency.platform.prompts import render_prompt
from residency.platform.records import Item, PromptMode
from residency.platform.sampling import SamplingConfig
from residency.training.rollouts.finished_group import Call, FinishedGroup
from residency.training.rollouts.token_steps import token_steps


@dataclass(frozen=True, kw_only=True)
class GroupTables:
    """A group's payload: its rows of the part that holds its traces, and of their verdicts."""

    traces_ref: Any
    traces: pa.Table
    verdicts: pa.Table


class RlSampler:
    """``purpose`` names calls in the journal and in ``traces/``; for the role ``rl_permuted`` scores are dealt anew."""

    def __init__(self, crew: Crew, role: str, purpose: str, items: Mapping[str, Item]) -> None:
        self._crew, self._role, self._purpose, self._items = crew, role, purpose, items
        config = crew.recipe.rl
        self._sampling = SamplingConfig(
            temperature=config.temperature,
            max_new_tokens=crew.recipe.student.max_new_tokens,
            top_k=config.top_k,
            top_p=config.top_p,
        )

    def purpose_of(self, number: int) -> str:
        return f"{self._purpose}-{number:04d}"

    def keys_of(self, call: Call) -> list[str]:
        return [key_of(self.purpose_of(call.number), self._items[item_id]) for item_id in call.item_ids]

    async def sample(self, call: Call, begins: Callable[[], None]) -> list[FinishedGroup]:
        """The call's groups that no step has used up; what the journal holds of it is not asked again."""
        crew, purpose = self._crew, self.purpose_of(call.number)
        chunks = plan_chunks(
            crew,
            purpose,
            [self._items[item_id] for item_id in call.item_ids],
            PromptMode.THINK,
            crew.recipe.rl.group_size,
            self._sampling,
            None,
            render_prompt,
        )
        groups: list[FinishedGroup] = []
        for chunk in chunks:
            sampled = await sample_chunk(crew, chunk, None, begins)
            limit = max(crew.recipe.rl.max_fault_ratio, 1.5 / sampled.verdicts.num_rows)  # one fault is no ratio yet
            refuse_faults(sampled.num_faults, sampled.verdicts.num_rows, limit, f"call {purpose}")
            groups += [self._group(purpose, item.id, sampled) for item in chunk.items]
        replay, keys = crew.journal.state.learner(self._role).replay, crew.journal.state.keys
        return [group for group in groups if keys[group.key].stage is Stage.JUDGED and group.key not in replay]

    async def give_up(self, call: Call, reason: str) -> None:
        """Journals that the call's groups will not be used."""
        keys = self._crew.journal.state.keys
        notes: list[Record] = [
            Dropped(key, reason) for key in self.keys_of(call) if key in keys and keys[key].stage <= Stage.JUDGED
        ]
        await self._crew.journal.durable(*notes)

    def _group(self, purpose: str, item_id: str, sampled: Sampled) -> FinishedGroup:
        key = f"{purpose}/{item_id}"
        mine = [row == item_id for row in sampled.traces.column("item_id").to_pylist()]
        traces = sampled.traces.filter(pa.array(mine))
        trace_ids = traces.column("id").to_pylist()
        judged = set(trace_ids)
        verdicts = sampled.verdicts.filter(
            pa.array([trace_id in judged for trace_id in sampled.verdicts.column("trace_id").to_pylist()])
        )
        score_of = dict(zip(verdicts.column("trace_id").to_pylist(), verdicts.column("score").to_pylist(), strict=True))
        scores = tuple(score_of[trace_id] for trace_id in trace_ids)
        return FinishedGroup(
            key=key,
            item_id=item_id,
            trace_ids=tuple(trace_ids),
            scores=permuted_scores(scores, self._crew.seed, key) if self._role == "rl_permuted" else scores,
            token_steps=token_steps(traces),
            payload=GroupTables(traces_ref=sampled.traces_ref, traces=traces, verdicts=verdicts),
        )
