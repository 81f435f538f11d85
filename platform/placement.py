"""Where actors sit: a role's seat as Ray's options, and groups of seats that are had all together or not at all."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from residency.platform.errors import DeadlineError, RecipeError
from residency.platform.node_types import Demand, NodeType, Seat, capacity_errors, label_words, most_seats
from residency.platform.profiles import RoleConfig

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

Events = Callable[..., None]
"""The run's event writer, called as ``events(kind, **details)``."""

QUIET_SECONDS = 5.0  # a wait that is longer is told
SCARCE_SECONDS = 10.0  # a wait for seats, where fewer would do
LEAST_CPUS = 0.001  # Ray takes no empty bundle
NODE_GROUP_LABEL = "ray.io/node-group"  # stands on nodes that an autoscaler's launcher has started


def no_events(kind: str, **details: Any) -> None:
    """The event writer where nobody listens."""


def actor_options(config: RoleConfig) -> dict[str, Any]:
    """Ray's options that place one actor of a role: CPUs, GPUs, labels and what may stand in for them."""
    options: dict[str, Any] = {"num_cpus": config.actor_cpus, "num_gpus": config.gpus}
    if config.labels:
        options["label_selector"] = dict(config.labels)
    if config.fallback_labels:
        options["fallback_strategy"] = [{"label_selector": dict(labels)} for labels in config.fallback_labels]
    return options


def options_in(group: "PlacementGroup", index: int, seat: Seat) -> dict[str, Any]:
    """Ray's options that place an actor on the seat of that index in a reserved group."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return {
        "num_cpus": seat.cpus,
        "num_gpus": seat.gpus,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
    }


async def reserve(seat: Seat, number: int, *, who: str, seconds: float, events: Events) -> "PlacementGroup":
    """``number`` seats at once, on as few nodes as possible; nothing stays reserved where that fails.

    Raises RecipeError at once where the cluster could never give them, DeadlineError after ``seconds``. A wait of more
    than 5 s is told by an event ``placement_waiting``, and its end by ``placement_done``.
    """
    import ray

    nodes = running_nodes()
    if errors := running_errors([Demand(role=who, number=number, most=number, seat=seat)], nodes):
        raise errors[0]
    bundle = {"CPU": seat.cpus, "GPU": seat.gpus} if seat.gpus else {"CPU": seat.cpus or LEAST_CPUS}
    group = ray.util.placement_group(
        [bundle] * number, "PACK", bundle_label_selector=[dict(choose_labels(seat, number, nodes))] * number
    )
    wants, start = f"{number} × ({seat})", time.monotonic()
    waiting = asyncio.ensure_future(_outcome(group.ready()))
    placed = False
    try:
        await asyncio.wait({waiting}, timeout=min(QUIET_SECONDS, seconds))
        if not waiting.done() and seconds > QUIET_SECONDS:
            events("placement_waiting", role=who, wants=wants, has=cluster_words(), deadline_seconds=seconds)
            await asyncio.wait({waiting}, timeout=seconds - QUIET_SECONDS)
            if waiting.done():
                events("placement_done", role=who, seconds=round(time.monotonic() - start, 3))
        if not waiting.done():
            raise DeadlineError(
                f"{who} found no place within {seconds:.0f} s: wants {wants}, all at once; {cluster_words()}",
                "as much free at the same time",
                "end what holds it, let the cluster grow, ask for less in the profile, or raise its deadline_seconds",
            )
        await waiting
        placed = True
    finally:
        if not placed:
            waiting.cancel()
            release(group)
    return group


async def reserve_most(
    seat: Seat, number: int, *, who: str, seconds: float, events: Events
) -> "tuple[PlacementGroup, int]":
    """As many of ``number`` seats as the cluster has now, one at least; all at once, as ``reserve`` does.

    A node that is just gone may still be counted: fewer are asked for where so many do not come within 10 s.
    """
    while (number := int(max(1, min(number, most_seats(seat, running_nodes()))))) > 1:
        try:
            return await reserve(seat, number, who=who, seconds=min(SCARCE_SECONDS, seconds), events=events), number
        except (DeadlineError, RecipeError):  # too many are taken, or another node has gone meanwhile
            number = int(min(number - 1, free_seats(seat)))
    return await reserve(seat, 1, who=who, seconds=seconds, events=events), 1


def release(group: "PlacementGroup") -> None:
    """Give the seats back; Ray ends the actors that still sit on them."""
    import ray

    ray.util.remove_placement_group(group)


async def _outcome(reference: Any) -> None:
    await reference


def running_nodes() -> tuple[NodeType, ...]:
    """The nodes that are up now and stay, each as a type of its own."""
    return _as_types({node["NodeID"]: node["Resources"] for node in _staying()})


def free_seats(seat: Seat) -> float:
    """Seats for which there is room now, beside all that runs."""
    from ray._private.state import available_resources_per_node  # ray.util.tpu asks it as well: no public way

    free = available_resources_per_node()
    here = {node["NodeID"] for node in _staying()}
    return most_seats(seat, _as_types({name: has for name, has in free.items() if name in here}))


def draining_nodes() -> dict[str, float]:
    """Ids of the nodes that are being drained, each with the time at which it goes (seconds since 1970; 0: not told).

    Ray's own libraries ask the same way: there is no public one.
    """
    from ray._private.state import state

    return {name: deadline / 1000 for name, deadline in state.get_draining_nodes().items()}


def _staying() -> list[dict[str, Any]]:
    import ray

    draining = draining_nodes()
    return [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in draining]


def _as_types(resources: Mapping[str, Mapping[str, float]]) -> tuple[NodeType, ...]:
    """Nodes by id, with what each has (or has left), as types."""
    import ray

    labels = {node["NodeID"]: node["Labels"] for node in ray.nodes()}
    return tuple(
        NodeType(
            name=f"node {name[:8]}", cpus=has.get("CPU", 0.0), gpus=has.get("GPU", 0.0),
            labels=labels.get(name, {}), max_nodes=1,
        )
        for name, has in resources.items()
    )  # fmt: skip


def may_grow(nodes: Sequence[NodeType]) -> bool:
    """Whether an autoscaler may add nodes: whoever launches nodes for one marks them.

    Ray has no public way to ask. Where a mark stands and nothing grows, the only loss is a wait to the deadline.
    """
    return any(NODE_GROUP_LABEL in node.labels for node in nodes)


def running_errors(demands: Sequence[Demand], nodes: Sequence[NodeType] | None = None) -> list[RecipeError]:
    """Demands that the running cluster could never meet; none where it may grow."""
    nodes = running_nodes() if nodes is None else nodes
    return [] if may_grow(nodes) else capacity_errors(demands, nodes)


def choose_labels(seat: Seat, number: int, nodes: Sequence[NodeType]) -> Mapping[str, str]:
    """The first label option with which these nodes, were they empty, seat them all; else the first of all.

    Ray's placement groups have no fallback of their own.
    """
    for labels in seat.label_options:
        if most_seats(replace(seat, label_options=(labels,)), nodes) >= number:
            return labels
    return seat.label_options[0]


def cluster_words() -> str:
    """What the cluster has, and how much of it is free."""
    import ray

    nodes, free = running_nodes(), ray.available_resources()
    has = {kind: sum(node.amount(kind) for node in nodes) for kind in ("CPU", "GPU")}
    labels = {label_words(node.own_labels) for node in nodes if node.own_labels}
    return (
        f"the cluster has {len(nodes)} node{'s' if len(nodes) > 1 else ''} with {has['CPU']:g} CPU"
        f" ({free.get('CPU', 0):g} free) and {has['GPU']:g} GPU ({free.get('GPU', 0):g} free),"
        f" labels: {'; '.join(sorted(labels)) or 'none'}"
    )
