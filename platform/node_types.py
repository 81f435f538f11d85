"""What a cluster could ever give: its node types at their maximum, and whether the roles' demands exceed that.

Only demands that could never be met are mistakes; whatever could be met by waiting (for a node to come, for another
role to end) is left to wait. No Ray: the types come from a cluster YAML, or from ``placement`` where a cluster runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from residency.platform.errors import RecipeError
from residency.platform.profiles import Profile, RoleConfig
from residency.platform.recipe_file import read_yaml

ROUNDING = 1e-6  # sums of fractions of a CPU
RAYS_OWN_LABELS = "ray.io/"  # Ray sets these on a node when it starts; no file tells them


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeType:
    """Nodes of one kind, of which there are ``max_nodes`` at most. A resource that is ``inf`` is not known."""

    name: str
    cpus: float
    gpus: float
    labels: Mapping[str, str]
    max_nodes: int

    @property
    def own_labels(self) -> dict[str, str]:
        """Its labels without those that Ray sets itself."""
        return {key: value for key, value in self.labels.items() if not key.startswith(RAYS_OWN_LABELS)}

    def amount(self, kind: str) -> float:
        """CPU or GPU of all its nodes together."""
        of_one = self.cpus if kind == "CPU" else self.gpus
        return of_one * self.max_nodes if of_one and self.max_nodes else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """What one actor takes of a node; ``label_options`` are tried in order."""

    cpus: float
    gpus: float = 0.0
    label_options: tuple[Mapping[str, str], ...] = ({},)

    def __str__(self) -> str:
        places = " or ".join(label_words(labels) for labels in self.label_options)
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU on {places}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """``number`` seats of a role, at the same time; it may grow to ``most``."""

    role: str
    number: int
    most: int
    seat: Seat


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeLoad:
    """What the roles want of the node types that they go to first: at their start, at most, and of how much."""

    types: tuple[str, ...]
    roles: tuple[str, ...]
    max_nodes: int
    cpus: float
    most_cpus: float
    has_cpus: float
    gpus: float
    most_gpus: float
    has_gpus: float


def label_words(labels: Mapping[str, str]) -> str:
    """Labels as one reads them: ``role=learner``."""
    return ", ".join(f"{key}={value}" for key, value in labels.items()) or "any node"


def seat_of(config: RoleConfig) -> Seat:
    """The seat of one actor of a role."""
    return Seat(cpus=config.actor_cpus, gpus=config.gpus, label_options=(config.labels, *config.fallback_labels))


def demands_of(profile: Profile, *, teachers: bool) -> list[list[Demand]]:
    """What a run seats at the same time: teachers while they write, the policy and its learners while those train.

    The roles beside them are in both lists; a server runs on its own.
    """

    def demand(role: str, config: RoleConfig) -> Demand:
        return Demand(role=role, number=config.actors, most=config.most_actors, seat=seat_of(config))

    beside = [
        demand("verifiers", profile.verifiers),
        demand("synthesizers", profile.synthesizers),
        demand("publisher", profile.publisher),
    ]
    training = [demand("generators", profile.generators), demand("learners", profile.learners), *beside]
    return [training, [demand("teachers", profile.teachers), *beside]] if teachers else [training]


def node_types_of(profile: Profile) -> tuple[NodeType, ...] | None:
    """The profile's node types: its local cluster's one node, or its cluster file's; None where nothing tells."""
    if profile.cluster_cpus is not None:
        here = NodeType(name="this machine", cpus=profile.cluster_cpus, gpus=math.inf, labels={}, max_nodes=1)
        return (here,)
    if profile.cluster_file is None or not Path(profile.cluster_file).exists():
        return None
    return read_node_types(Path(profile.cluster_file))


def read_node_types(path: Path) -> tuple[NodeType, ...]:
    """``available_node_types`` of a Ray cluster YAML; raises RecipeError where there are none.

    As Ray reads them: a type without ``max_workers`` may fill the cluster's own, and the head is one node more. A type
    without ``resources`` is measured by its provider when it starts: not known here.
    """
    tree = read_yaml(path)
    types = tree.get("available_node_types")
    if not isinstance(types, dict) or not all(isinstance(each, dict) for each in types.values()):
        raise RecipeError(
            f"{path} names no available_node_types", "the YAML of a Ray cluster (`ray up`)", "correct cluster_file"
        )
    all_workers = int(tree.get("max_workers", 2))  # Ray's own default
    head = tree.get("head_node_type")
    return tuple(_node_type(name, fields, all_workers, name == head) for name, fields in types.items())


def _node_type(name: str, fields: Mapping[str, Any], all_workers: int, is_head: bool) -> NodeType:
    resources = fields.get("resources")
    workers = min(all_workers, int(fields.get("max_workers", 0 if is_head else all_workers)))
    return NodeType(
        name=name,
        cpus=math.inf if resources is None else float(resources.get("CPU", 0)),
        gpus=math.inf if resources is None else float(resources.get("GPU", 0)),
        labels=fields.get("labels") or {},
        max_nodes=workers + is_head,
    )


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels is meant: Ray's selectors ``x``, ``!x``, ``in(x, y)`` and ``!in(x, y)``."""
    for key, wanted in selector.items():
        if key not in labels and key.startswith(RAYS_OWN_LABELS):
            continue
        positive = wanted.removeprefix("!")
        values = positive[3:-1].split(",") if positive.startswith("in(") else [positive]
        if (labels.get(key) in {value.strip() for value in values}) == wanted.startswith("!"):
            return False
    return True


def seats_on_node(seat: Seat, node: NodeType) -> float:
    """Seats that one empty node has room for, whatever the labels; fractions of a GPU never span two."""
    by_cpu = math.inf if not seat.cpus or math.isinf(node.cpus) else (node.cpus + ROUNDING) // seat.cpus
    if not seat.gpus or math.isinf(node.gpus):
        return by_cpu
    a_gpu = (1 + ROUNDING) // seat.gpus
    return min(by_cpu, node.gpus * a_gpu if seat.gpus <= 1 else node.gpus // seat.gpus)


def types_for(seat: Seat, types: Sequence[NodeType]) -> list[NodeType]:
    """The types whose nodes have the labels and room for one seat."""
    return [
        node
        for node in types
        if node.max_nodes
        and any(selects(labels, node.labels) for labels in seat.label_options)
        and seats_on_node(seat, node) >= 1
    ]


def first_choice(seat: Seat, types: Sequence[NodeType]) -> list[NodeType]:
    """The types of the first label option for which there are any."""
    options = (types_for(replace(seat, label_options=(labels,)), types) for labels in seat.label_options)
    return next((found for found in options if found), [])


def most_seats(seat: Seat, types: Sequence[NodeType]) -> float:
    """Seats that all node types at their maximum have room for, were there nothing else."""
    return sum(seats_on_node(seat, node) * node.max_nodes for node in types_for(seat, types))


def capacity_errors(demands: Sequence[Demand], types: Sequence[NodeType]) -> list[RecipeError]:
    """Demands that all node types at their maximum could never meet: a seat that fits no node, too many seats of a
    role, or roles that together ask for more CPUs or GPUs than the nodes have that could take them."""
    whole = "; ".join(type_words(node) for node in types) or "no node"
    errors: list[RecipeError] = []
    fitting: list[Demand] = []
    for demand in demands:
        most = most_seats(demand.seat, types)
        if not most:
            errors.append(
                RecipeError(
                    f"one of {demand.role} takes {demand.seat}, and there is at most: {whole}",
                    "a node type that has the labels and room for one",
                    f"correct cpus, gpus or labels of {demand.role} in the profile, or add such a node type",
                )
            )
        elif most < demand.number:
            errors.append(
                RecipeError(
                    f"{demand.number} {demand.role} take {demand.seat} each, and all node types at their maximum seat"
                    f" {most:g} of them: {whole}",
                    f"room for {demand.number}",
                    f"lower actors of {demand.role} to {most:g}, or raise max_workers of a node type",
                )
            )
        else:
            fitting.append(demand)
    return errors + _sum_errors(fitting, types)


def _sum_errors(demands: Sequence[Demand], types: Sequence[NodeType]) -> list[RecipeError]:
    """For every set of types that some role is bound to: what is bound to it and what it has."""
    bound = {demand.role: frozenset(node.name for node in types_for(demand.seat, types)) for demand in demands}
    errors: dict[tuple[str, ...], RecipeError] = {}
    for names in sorted(
        {*bound.values(), frozenset(node.name for node in types)}, key=lambda each: (len(each), sorted(each))
    ):
        inside = [demand for demand in demands if bound[demand.role] <= names]
        for kind in ("CPU", "GPU"):
            wants = {each.role: each.number * (each.seat.cpus if kind == "CPU" else each.seat.gpus) for each in inside}
            has = sum(node.amount(kind) for node in types if node.name in names)
            if sum(wants.values()) > has + ROUNDING:
                roles = tuple(role for role, amount in wants.items() if amount)
                errors.setdefault(
                    (kind, *roles),
                    RecipeError(
                        f"{', '.join(f'{role} {wants[role]:g}' for role in roles)}: together {sum(wants.values()):g}"
                        f" {kind}, and {', '.join(sorted(names))} at their maximum have {has:g}",
                        "no more than they could ever have",
                        "lower the roles' actors or what each takes, or raise max_workers (cluster_cpus of a local"
                        " cluster)",
                    ),
                )
    return list(errors.values())


def node_loads(demands: Sequence[Demand], types: Sequence[NodeType]) -> list[NodeLoad]:
    """One load for each set of node types that some roles go to first."""
    sets: dict[tuple[str, ...], list[Demand]] = {}
    for demand in demands:
        sets.setdefault(tuple(node.name for node in first_choice(demand.seat, types)), []).append(demand)
    loads: list[NodeLoad] = []
    for names, roles in sets.items():
        nodes = [node for node in types if node.name in names]
        loads.append(
            NodeLoad(
                types=names,
                roles=tuple(each.role for each in roles),
                max_nodes=sum(node.max_nodes for node in nodes),
                cpus=sum(each.number * each.seat.cpus for each in roles),
                most_cpus=sum(each.most * each.seat.cpus for each in roles),
                has_cpus=sum(node.amount("CPU") for node in nodes),
                gpus=sum(each.number * each.seat.gpus for each in roles),
                most_gpus=sum(each.most * each.seat.gpus for each in roles),
                has_gpus=sum(node.amount("GPU") for node in nodes),
            )
        )
    return loads


def type_words(node: NodeType) -> str:
    """One node type in words."""
    gpus = "" if math.isinf(node.gpus) else f" and {node.gpus:g} GPU"
    cpus = "CPUs not known" if math.isinf(node.cpus) else f"{node.cpus:g} CPU{gpus}"
    labels = f" ({label_words(node.own_labels)})" if node.own_labels else ""
    return f"{node.max_nodes} × {node.name}{labels} with {cpus}"
