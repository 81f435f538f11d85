"""Placing on real nodes: a group is had whole or waits aloud, labels fall back, and nothing stays reserved."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import RayActorError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from residency.actors.learner_group import LearnerGroup
from residency.actors.synthesizer import start_synthesizer
from residency.actors.verifier import start_verifier
from residency.platform import placement
from residency.platform.errors import DeadlineError, RecipeError
from residency.platform.media_store import blank_png, media_table
from residency.platform.node_types import Demand, Seat, seat_of
from residency.platform.placement import no_events, options_in, release, reserve, running_errors
from residency.platform.profiles import GeneratorConfig, LearnerConfig, RoleConfig
from residency.platform.recipe import OptimizerConfig

DEADLINE_SECONDS = 100
Leave = Callable[[str, float], Any]


class Occupant:
    """Holds CPUs, and says where it sits."""

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


def start_occupant(**options: Any) -> Any:
    return ray.remote(Occupant).options(**options).remote()


class Events(list[tuple[str, dict[str, Any]]]):
    def __call__(self, kind: str, **details: Any) -> None:
        self.append((kind, details))


def node_of(actor: Any) -> str:
    return ray.get(
        actor.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()), timeout=DEADLINE_SECONDS
    )


def occupy(node_id: str, cpus: float) -> Any:
    here = NodeAffinitySchedulingStrategy(node_id, soft=False)
    occupant = start_occupant(num_cpus=cpus, scheduling_strategy=here)
    assert ray.get(occupant.node.remote(), timeout=DEADLINE_SECONDS) == node_id
    return occupant


def free_cpus(node_id: str | None = None) -> float:
    """Of one node, or of all."""
    nodes = available_resources_per_node()
    return sum(node.get("CPU", 0.0) for name, node in nodes.items() if node_id in (name, None))


def wait_until_free(cpus: float, node_id: str | None = None) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while abs(free_cpus(node_id) - cpus) > 1e-3:
        assert time.monotonic() < deadline, f"{free_cpus(node_id)} CPUs are free and not {cpus}"
        time.sleep(0.05)


def wait_until_ended(actor: Any) -> None:
    """Ray ends who sat in a placement group a moment after the group."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            ray.get(actor.node.remote(), timeout=DEADLINE_SECONDS)
        except RayActorError:
            return
        assert time.monotonic() < deadline, "it lives"


@pytest.fixture
def free(ray_cluster: Any) -> Iterator[float]:
    """CPUs that are free before the test, once the ones before it have ended, and must be free after it."""
    before, since = free_cpus(), time.monotonic()
    while time.monotonic() - since < 1:
        time.sleep(0.1)
        if free_cpus() != before:
            before, since = free_cpus(), time.monotonic()
    yield before
    wait_until_free(before)


@pytest.fixture
def leave(free: float) -> Iterator[Leave]:
    """Starts an occupant of all CPUs of a node but these, whatever else the session has there; ended after the test."""
    occupants: list[Any] = []

    def occupy(node_id: str, cpus: float) -> Any:
        here = NodeAffinitySchedulingStrategy(node_id, soft=False)
        occupants.append(start_occupant(num_cpus=round(free_cpus(node_id) - cpus, 4), scheduling_strategy=here))
        assert ray.get(occupants[-1].node.remote(), timeout=DEADLINE_SECONDS) == node_id
        wait_until_free(cpus, node_id)
        return occupants[-1]

    yield occupy
    for occupant in occupants:
        ray.kill(occupant)


def start_learners(model_dir: Path, learner: LearnerConfig, seconds: float, events: Events) -> Any:
    media_ref = ray.put(media_table([blank_png((8, 8))]))
    return LearnerGroup.start(
        model_dir, learner, "float32", OptimizerConfig(learning_rate=1e-3), 10, media_ref, seed=0,
        deadline_seconds=seconds, events=events,
    )  # fmt: skip


def test_ranks_that_do_not_fit_now_wait_aloud_and_then_name_who_wants_what(
    ray_cluster: Any, free: float, leave: Leave, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Three ranks of 2 CPUs, and 3 CPUs are free on each of two nodes: two would fit, so none is placed."""
    monkeypatch.setattr(placement, "QUIET_SECONDS", 0.5)
    for node in (ray_cluster.left, ray_cluster.right):
        leave(node, 3)
    events, start = Events(), time.monotonic()
    with pytest.raises(DeadlineError) as caught:
        asyncio.run(start_learners(tmp_path, LearnerConfig(actors=3, cpus=2), 2.0, events))
    assert 2 <= time.monotonic() - start < 10
    for words in ("the learner ranks", "within 2 s", "3 × (2 CPU", "2 nodes with 8 CPU (6 free)"):
        assert words in str(caught.value)
    ((kind, details),) = events
    assert kind == "placement_waiting"
    assert details["role"] == "the learner ranks"
    assert details["wants"].startswith("3 × (2 CPU")
    wait_until_free(6)  # the seats that were free are free again


def test_a_group_that_waits_gets_its_place_once_it_is_free(
    ray_cluster: Any, free: float, leave: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "QUIET_SECONDS", 0.5)
    occupants, events = [leave(node, 1) for node in (ray_cluster.left, ray_cluster.right)], Events()

    async def scenario() -> PlacementGroup:
        waiting = asyncio.ensure_future(
            reserve(Seat(cpus=1.5), 2, who="ranks", seconds=DEADLINE_SECONDS, events=events)
        )
        while not events:
            await asyncio.sleep(0.05)
        ray.kill(occupants[0])
        return await waiting

    group = asyncio.run(scenario())
    assert [kind for kind, _ in events] == ["placement_waiting", "placement_done"]
    release(group)


def test_a_wait_that_is_given_up_leaves_nothing(ray_cluster: Any, free: float, leave: Leave) -> None:
    for node in (ray_cluster.left, ray_cluster.right):
        leave(node, 2)

    async def scenario() -> None:
        waiting = asyncio.ensure_future(reserve(Seat(cpus=1.5), 3, who="ranks", seconds=60, events=no_events))
        await asyncio.sleep(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scenario())
    wait_until_free(4)


def test_what_the_cluster_could_never_give_is_refused_at_once(ray_cluster: Any, free: float, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(RecipeError, match="seat 2 of them"):
        asyncio.run(start_learners(tmp_path, LearnerConfig(actors=3, cpus=3), 60, Events()))
    with pytest.raises(RecipeError, match="role=nowhere"):
        asyncio.run(start_learners(tmp_path, LearnerConfig(cpus=1, labels={"role": "nowhere"}), 60, Events()))
    (error,) = running_errors([Demand(role="verifiers", number=1, most=1, seat=Seat(cpus=5))])
    assert "5 CPU" in str(error)
    assert time.monotonic() - start < 5


def test_labels_and_their_fallback_place_actors(ray_cluster: Any, free: float, leave: Leave) -> None:
    """Every node carries its id as a label."""
    on_left, on_right = {"ray.io/node-id": ray_cluster.left}, {"ray.io/node-id": ray_cluster.right}
    labelled = start_synthesizer(placement=RoleConfig(cpus=0.5, labels=on_right))
    assert node_of(labelled) == ray_cluster.right
    fallen = start_verifier(placement=RoleConfig(cpus=0.5, labels={"role": "nowhere"}, fallback_labels=(on_right,)))
    assert node_of(fallen) == ray_cluster.right
    anywhere = start_synthesizer(placement=RoleConfig(cpus=0.5, labels={"role": "nowhere"}, fallback_labels=({},)))
    assert node_of(anywhere) in (ray_cluster.left, ray_cluster.right)
    for actor in (labelled, fallen, anywhere):
        ray.kill(actor)
    wait_until_free(free)
    leave(ray_cluster.left, 0)
    crowded = start_synthesizer(placement=RoleConfig(cpus=0.5, labels=on_left, fallback_labels=(on_right,)))
    assert node_of(crowded) == ray_cluster.right, "a full node counts as none"
    ray.kill(crowded)


def test_a_group_falls_back_whole(ray_cluster: Any, free: float) -> None:
    config = LearnerConfig(
        actors=2, cpus=1, labels={"role": "nowhere"}, fallback_labels=({"ray.io/node-id": ray_cluster.right},)
    )
    seats = asyncio.run(
        reserve(seat_of(config), config.actors, who="ranks", seconds=DEADLINE_SECONDS, events=no_events)
    )
    ranks = [start_occupant(**options_in(seats, rank, seat_of(config))) for rank in range(config.actors)]
    assert ray.get([rank.node.remote() for rank in ranks], timeout=DEADLINE_SECONDS) == [ray_cluster.right] * 2
    release(seats)
    wait_until_ended(ranks[0])


def test_an_engine_of_two_ranks_has_one_seat_of_its_own(ray_cluster: Any, free: float) -> None:
    seat = seat_of(GeneratorConfig(cpus=1, tensor_parallel=2))
    group = asyncio.run(reserve(seat, 1, who="a teacher", seconds=DEADLINE_SECONDS, events=no_events))
    engine = start_occupant(**options_in(group, 0, seat))
    assert ray.get(engine.node.remote(), timeout=DEADLINE_SECONDS) in (ray_cluster.left, ray_cluster.right)
    wait_until_free(free - 2)
    release(group)


def test_a_role_that_takes_no_cpu_has_a_seat_too(ray_cluster: Any, free: float) -> None:
    group = asyncio.run(reserve(Seat(cpus=0), 1, who="a role", seconds=DEADLINE_SECONDS, events=no_events))
    actor = start_occupant(**options_in(group, 0, Seat(cpus=0)))
    assert ray.get(actor.node.remote(), timeout=DEADLINE_SECONDS)
    release(group)


def test_a_learner_group_gives_its_seats_back(ray_cluster: Any, free: float, tiny_student_dir: Path) -> None:
    learner, events = LearnerConfig(actors=1, cpus=1), Events()

    async def scenario() -> None:
        group = await start_learners(tiny_student_dir, learner, 240, events)
        wait_until_free(free - 1)
        await group.close()

    asyncio.run(scenario())
    wait_until_free(free)
    assert events == []


def test_a_start_of_learners_that_is_given_up_leaves_no_seat(ray_cluster: Any, free: float, tmp_path: Path) -> None:
    async def scenario() -> None:
        start = asyncio.ensure_future(start_learners(tmp_path, LearnerConfig(actors=2, cpus=1), 240, Events()))
        while free_cpus() > free - 2 + 1e-3:
            assert not start.done()
            await asyncio.sleep(0.05)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start

    asyncio.run(scenario())
    wait_until_free(free)
