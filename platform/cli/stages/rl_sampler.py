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
            groups += self._groups(purpose, sampled)
        replay, keys = crew.journal.state.learner(self._role).replay, crew.journal.state.keys
        return [group for group in groups if keys[group.key].stage is Stage.JUDGED and group.key not in replay]

    async def give_up(self, call: Call, reason: str) -> None:
        """Journals that the call's groups will not be used."""
        keys = self._crew.journal.state.keys
        notes: list[Record] = [
            Dropped(key, reason) for key in self.keys_of(call) if key in keys and keys[key].stage <= Stage.JUDGED
        ]
        await self._crew.journal.durable(*notes)

    def _groups(self, purpose: str, sampled: Sampled) -> list[FinishedGroup]:
        """A chunk's groups, in the order of its items."""
        trace_ids, item_ids = (sampled.traces.column(name).to_pylist() for name in ("id", "item_id"))
        judged, scores = (sampled.verdicts.column(name).to_pylist() for name in ("trace_id", "score"))
        verdict_of = {trace_id: row for row, trace_id in enumerate(judged)}
        rows_of: dict[str, list[int]] = {item.id: [] for item in sampled.items}
        for row, item_id in enumerate(item_ids):
            rows_of[item_id].append(row)
        groups: list[FinishedGroup] = []
        for item_id, rows in rows_of.items():
            key, traces = f"{purpose}/{item_id}", sampled.traces.take(rows)
            verdicts = [verdict_of[trace_ids[row]] for row in rows]
            earned = tuple(scores[row] for row in verdicts)
            groups.append(
                FinishedGroup(
                    key=key,
                    item_id=item_id,
                    trace_ids=tuple(trace_ids[row] for row in rows),
                    scores=permuted_scores(earned, self._crew.seed, key) if self._role == "rl_permuted" else earned,
                    token_steps=token_steps(traces),
                    payload=GroupTables(
                        traces_ref=sampled.traces_ref, traces=traces, verdicts=sampled.verdicts.take(verdicts)
                    ),
                )
            )
        return groups
