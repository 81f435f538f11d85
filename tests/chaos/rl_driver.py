"""The driver of a chaos run: the shipped conductor on a cluster that is there, to be killed and started again.

    python tests/chaos/rl_driver.py RUN KIND DEADLINE_SECONDS [wait]

With ``wait`` it begins when a line comes on its standard input, all code being loaded then.
With the kind ``light`` or ``deepspeed`` the engines are simulated, with ``light`` DeepSpeed too; everything else is
what `residency rl` would run. A file ``lose`` beside the run names a kind of object: the next one of it is lost on
its way, and the file goes.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from chaos_job import SEED, Kind, engine_config, items, profile_of, recipe_of

from residency.platform.cluster import prepare_environment

prepare_environment()  # before Ray is imported

import ray  # noqa: E402
from light_learner import join_light  # noqa: E402

from residency.actors import learner_group  # noqa: E402
from residency.actors.publisher import Published  # noqa: E402
from residency.actors.simulated_generator import start_simulated_generator  # noqa: E402
from residency.platform.arrow_tables import to_table  # noqa: E402
from residency.platform.cli import conductor  # noqa: E402
from residency.platform.cli.crew import Crew  # noqa: E402
from residency.platform.cli.screen import Screen  # noqa: E402
from residency.platform.cli.weights_control import WeightsUpdate  # noqa: E402
from residency.platform.cluster import put  # noqa: E402
from residency.platform.records import Item  # noqa: E402
from residency.platform.run_folder import RunFolder  # noqa: E402


class Owner:
    """Owns what it is given a copy of, until it is killed."""

    def own(self, value: Any) -> list[Any]:
        return [ray.put(value)]


class BrokenCrew(Crew):
    """The shipped crew, whose objects can be lost while they are on their way."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        distribute = self.weights.distribute

        async def losing(published: Published, in_flight: bool) -> WeightsUpdate:
            manifest, (first, *others) = published
            return await distribute((manifest, [await self._lost("weights", first), *others]), in_flight)

        self.weights.distribute = losing

    async def _lost(self, kind: str, reference: Any) -> Any:
        """The reference, or in its place one whose value went with its owner, where that kind is to be lost now."""
        wanted = self.run.path.parent / "lose"
        try:
            if wanted.read_text().strip() != kind:
                return reference
        except FileNotFoundError:
            return reference
        owner: Any = ray.remote(Owner).options(num_cpus=0).remote()
        (copy,) = await owner.own.remote(reference)
        ray.kill(owner)
        await asyncio.sleep(1.5)  # until the nodes have let go of it
        self.run.event("object_lost", object=kind, reference=copy.hex())
        wanted.unlink()
        return copy

    async def fetch(self, reference: Any, what: str) -> Any:
        return await super().fetch(await self._lost("rollouts", reference), what)

    async def judge(self, traces_ref: Any, items: Sequence[Item]) -> Any:
        return await super().judge(await self._lost("traces", traces_ref), items)

    async def encode_rollouts(
        self, traces_refs: Sequence[Any], advantages: Mapping[str, float], item_ids: Sequence[str]
    ) -> Any:
        first, *others = traces_refs
        judged = [await self._lost("judged", first), *others]
        return await self._lost("batch", await super().encode_rollouts(judged, advantages, item_ids))


class SimulatedCrew(BrokenCrew):
    """Its engines are simulated."""

    kind: Kind = "light"

    def start_engine(self, model_dir: Path, config: Any, *, placement: Any, label: str, role: str) -> Any:  # type: ignore[override]
        if not hasattr(self, "_known"):
            self._known = put(to_table(items(), Item))
        return start_simulated_generator(
            engine_config(self.kind), items=self._known, placement=placement, label=label, seed=SEED
        )


def main() -> None:
    if sys.argv[4:] == ["wait"]:
        sys.stdin.readline()
    run, kind, deadline_seconds = RunFolder(Path(sys.argv[1])), cast(Kind, sys.argv[2]), float(sys.argv[3])
    crew_class = BrokenCrew if kind == "vllm" else SimulatedCrew
    SimulatedCrew.kind = kind
    conductor.Crew = crew_class
    if kind == "light":
        learner_group.join = join_light
    recipe, profile = recipe_of(kind), profile_of(kind, deadline_seconds)
    os.chdir(run.path)
    run.open(recipe, profile)
    asyncio.run(conductor.conduct_seed(recipe, profile, run, SEED, "rl", Screen()))


if __name__ == "__main__":
    main()
