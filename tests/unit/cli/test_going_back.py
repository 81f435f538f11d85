"""A learner that goes back further than the driver remembers: what its steps were made of comes back from disk."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.replaying import scores_of
from residency.platform.cli.stages.rl_trainer import RlTrainer
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Admitted, Answered, Judged, Record, Requested, Trained
from residency.platform.journal.state import is_settled
from residency.platform.recipe import Recipe

RECIPE = Recipe.model_validate({"name": "test", "data": {"format": "starter"}})


def test_batches_of_settled_steps_are_due_again_with_their_answers(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal") as journal:
        for number in range(1, 5):
            key = f"rl-{number:04d}/a"
            records: list[Record] = [
                Admitted(key), Requested(key, "g", 1), Answered(key, "g", ("traces/p",)), Judged(key, (0.0, 1.0)),
                Trained((key,), 0, number),
            ]  # fmt: skip
            journal.append(*records)
        crew: Any = SimpleNamespace(
            journal=journal, incarnation=1, recipe=RECIPE, profile=SimpleNamespace(dtype="float32"),
            checkpoint=lambda name: tmp_path / name, idle=SimpleNamespace(take=dict),
        )  # fmt: skip
        journal.settle("rl", 3)
        assert sum(map(is_settled, journal.state.keys.values())) == 3
        with Screen(quiet=True).steps("reinforcement learning", 4, "steps") as counter:
            trainer = RlTrainer(crew, "rl", "rl", counter)
            restored = asyncio.run(trainer._stand_on((0, 1)))  # the checkpoints of 2 to 4 were damaged
        assert (restored.step, restored.batches) == (1, (("rl-0002/a",), ("rl-0003/a",), ("rl-0004/a",)))
        for (key,) in restored.batches:
            now = journal.state.keys[key]
            assert now.answer is not None
            assert (now.answer.refs, scores_of(key, now)) == (("traces/p",), (0.0, 1.0))
