"""Seats, labels and what a cluster could ever give: cases that can be counted by hand. No Ray."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from residency.platform.errors import RecipeError
from residency.platform.node_types import (
    Demand,
    NodeType,
    Seat,
    capacity_errors,
    demands_of,
    most_seats,
    node_loads,
    node_types_of,
    read_node_types,
    seat_of,
    selects,
)
from residency.platform.placement import actor_options, choose_labels, may_grow, running_errors
from residency.platform.profiles import GeneratorConfig, LearnerConfig, Profile, RoleConfig, load_profile

CPU = NodeType(name="cpu", cpus=16, gpus=0, labels={"role": "cpu"}, max_nodes=2)
GPU = NodeType(name="gpu", cpus=32, gpus=8, labels={"role": "gpu", "card": "h100"}, max_nodes=3)


def demand(role: str, number: int, seat: Seat) -> Demand:
    return Demand(role=role, number=number, most=number, seat=seat)


@pytest.mark.parametrize(
    ("wanted", "labels", "is_meant"),
    [
        ({}, {}, True),
        ({"role": "cpu"}, {"role": "cpu"}, True),
        ({"role": "cpu"}, {}, False),
        ({"role": "!cpu"}, {}, True),
        ({"role": "!cpu"}, {"role": "cpu"}, False),
        ({"role": "in(cpu, gpu)"}, {"role": "gpu"}, True),
        ({"role": "!in(cpu, gpu)"}, {"role": "gpu"}, False),
        ({"role": "cpu", "zone": "a"}, {"role": "cpu", "zone": "b"}, False),
        ({"ray.io/accelerator-type": "H100"}, {}, True),  # Ray sets it when the node starts
        ({"ray.io/accelerator-type": "H100"}, {"ray.io/accelerator-type": "A100"}, False),
    ],
)
def test_selectors_mean_what_ray_says(wanted: dict[str, str], labels: dict[str, str], is_meant: bool) -> None:
    assert selects(wanted, labels) is is_meant


@pytest.mark.parametrize(
    ("cpus", "gpus", "seats"),
    [
        (4, 0, 2 * 4 + 3 * 8),
        (5, 0, 2 * 3 + 3 * 6),  # what is left of a node is of no use
        (1, 1, 3 * 8),
        (1, 0.5, 3 * 16),
        (1, 0.6, 3 * 8),  # 0.6 of a GPU twice is no GPU
        (1, 3, 3 * 2),
        (20, 1, 3),
        (0.1, 0, 2 * 160 + 3 * 320),
        (33, 0, 0),
        (1, 9, 0),
    ],
)
def test_seats_are_counted_node_by_node(cpus: float, gpus: float, seats: int) -> None:
    assert most_seats(Seat(cpus=cpus, gpus=gpus), (CPU, GPU)) == seats


def test_a_seat_that_fits_no_node_is_refused_with_the_numbers() -> None:
    seat = Seat(cpus=20, label_options=({"role": "cpu"},))
    (error,) = capacity_errors([demand("verifiers", 1, seat)], (CPU, GPU))
    assert error.exit_code == 2
    for words in ("verifiers", "20 CPU", "role=cpu", "2 × cpu", "16 CPU", "3 × gpu", "32 CPU and 8 GPU"):
        assert words in str(error)
    assert not capacity_errors([demand("verifiers", 1, replace(seat, label_options=({"role": "cpu"}, {})))], (CPU, GPU))


def test_more_seats_than_all_nodes_have_is_refused_and_as_many_are_not() -> None:
    seat = Seat(cpus=4, gpus=3)
    assert not capacity_errors([demand("learners", 6, seat)], (CPU, GPU))
    (error,) = capacity_errors([demand("learners", 7, seat)], (CPU, GPU))
    assert "7 learners" in str(error)
    assert "seat 6 of them" in str(error)


def test_roles_are_summed_over_the_nodes_that_they_are_bound_to() -> None:
    gpu = ({"role": "gpu"},)
    generators = demand("generators", 20, Seat(cpus=1, gpus=1, label_options=gpu))
    learners = demand("learners", 4, Seat(cpus=1, gpus=1, label_options=gpu))
    anywhere = demand("verifiers", 104, Seat(cpus=1))
    assert not capacity_errors([generators, learners, anywhere], (CPU, GPU))  # 24 of 24 GPUs, 128 of 128 CPUs
    one_more = replace(learners, number=5)
    (error,) = capacity_errors([generators, one_more, replace(anywhere, number=103)], (CPU, GPU))
    assert "generators 20, learners 5: together 25 GPU, and gpu at their maximum have 24" in str(error)
    (error,) = capacity_errors([generators, learners, replace(anywhere, number=105)], (CPU, GPU))
    assert "together 129 CPU, and cpu, gpu at their maximum have 128" in str(error)


def test_what_is_not_known_is_left_to_wait() -> None:
    unmeasured = NodeType(name="x", cpus=math.inf, gpus=math.inf, labels={}, max_nodes=1)
    assert not capacity_errors([demand("generators", 500, Seat(cpus=64, gpus=8))], (unmeasured,))


def test_a_cluster_yaml_is_read_as_ray_reads_it(tmp_path: Path) -> None:
    types = {
        "head": {"resources": {"CPU": 2}},
        "small": {"resources": {"CPU": 4}, "labels": {"role": "cpu"}},
        "large": {"resources": {"CPU": 8, "GPU": 2}, "max_workers": 3},
        "measured": {"max_workers": 99},
    }
    path = tmp_path / "c.yaml"
    path.write_text(
        yaml.safe_dump({"max_workers": 5, "head_node_type": "head", "available_node_types": types}, sort_keys=False)
    )
    head, small, large, measured = read_node_types(path)
    assert (head.cpus, head.gpus, head.max_nodes) == (2, 0, 1)
    assert (small.labels, small.max_nodes) == ({"role": "cpu"}, 5)
    assert (large.gpus, large.max_nodes) == (2, 3)
    assert (measured.cpus, measured.max_nodes) == (math.inf, 5)
    path.write_text("max_workers: 5\n")
    with pytest.raises(RecipeError, match="available_node_types"):
        read_node_types(path)


def test_the_cluster_profile_finds_its_file_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "profile.yaml").write_text("name: x\ncluster_file: c.yaml\n")
    profile = load_profile(tmp_path / "profile.yaml")
    assert node_types_of(profile) is None, "not there: nothing is known"
    (tmp_path / "c.yaml").write_text("available_node_types: {one: {resources: {CPU: 3}}}\n")
    assert [node.name for node in node_types_of(profile) or ()] == ["one"]
    assert [(node.cpus, node.max_nodes) for node in node_types_of(Profile(name="x", cluster_cpus=2)) or ()] == [(2, 1)]


def test_teachers_and_learners_need_not_stand_at_the_same_time() -> None:
    profile = Profile(name="x", cluster_cpus=2, teachers=GeneratorConfig(cpus=1.5), learners=LearnerConfig(cpus=1))
    types = node_types_of(profile) or ()
    turns = demands_of(profile, teachers=True)
    assert [{each.role for each in turn} & {"teachers", "learners"} for turn in turns] == [{"learners"}, {"teachers"}]
    assert not [error for turn in turns for error in capacity_errors(turn, types)]


def test_loads_stand_with_the_first_choice() -> None:
    seat = Seat(cpus=2, label_options=({"role": "none"}, {"role": "cpu"}, {}))
    (load,) = node_loads([Demand(role="verifiers", number=2, most=5, seat=seat)], (CPU, GPU))
    assert (load.types, load.cpus, load.most_cpus, load.has_cpus) == (("cpu",), 4, 10, 32)


def test_options_are_rays() -> None:
    assert actor_options(RoleConfig(cpus=0.5)) == {"num_cpus": 0.5, "num_gpus": 0}
    placed = actor_options(RoleConfig(labels={"role": "cpu"}, fallback_labels=({"role": "gpu"}, {})))
    assert placed["label_selector"] == {"role": "cpu"}
    assert placed["fallback_strategy"] == [{"label_selector": {"role": "gpu"}}, {"label_selector": {}}]


def test_an_engines_ranks_share_its_cpus_on_gpus_and_take_their_own_on_cpu() -> None:
    assert seat_of(GeneratorConfig(cpus=1.5, tensor_parallel=2)).cpus == 3
    assert seat_of(GeneratorConfig(cpus=8, gpus=4, tensor_parallel=4)).cpus == 8
    assert actor_options(GeneratorConfig(cpus=1.5, tensor_parallel=2))["num_cpus"] == 3


def test_a_group_takes_the_first_labels_that_seat_it_whole() -> None:
    seat = Seat(cpus=8, label_options=({"role": "cpu"}, {"role": "gpu"}))
    assert choose_labels(seat, 4, (CPU, GPU)) == {"role": "cpu"}
    assert choose_labels(seat, 5, (CPU, GPU)) == {"role": "gpu"}
    assert choose_labels(seat, 99, (CPU, GPU)) == {"role": "cpu"}, "nothing seats them: wait for the first"


def test_where_an_autoscaler_marks_its_nodes_everything_waits() -> None:
    marked = replace(CPU, labels={"ray.io/node-group": "cpu"})
    too_many = [demand("learners", 999, Seat(cpus=16))]
    assert may_grow((GPU, marked))
    assert not running_errors(too_many, (GPU, marked))
    assert running_errors(too_many, (GPU, CPU))


@pytest.mark.parametrize(
    ("role", "values", "words"),
    [
        (RoleConfig, {"actors": 4, "max_actors": 2}, "max_actors 2 is below actors 4"),
        (RoleConfig, {"fallback_labels": ({"a": "b"},)}, "give labels, or leave"),
        (RoleConfig, {"gpus": 1.5}, "write 1 or 2"),
        (LearnerConfig, {"actors": 2, "max_actors": 4}, "set actors to 4, or leave"),
        (GeneratorConfig, {"gpus": 2, "tensor_parallel": 4}, "set gpus to 4, or tensor_parallel to 2"),
    ],
)
def test_a_role_that_contradicts_itself_hears_the_two_ways_out(
    role: type[RoleConfig], values: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        role.model_validate(values)


def test_a_role_may_grow_only_if_it_says_so() -> None:
    assert RoleConfig(actors=3).most_actors == 3
    assert RoleConfig(actors=3, max_actors=5).most_actors == 5
    with pytest.raises(ValueError, match="leave one of the two out"):
        Profile(name="x", cluster_cpus=2, cluster_file="c.yaml")
