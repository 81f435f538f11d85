"""What a registry keeps, what it refuses, and what a server is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from residency.platform.errors import BadInputError, ModelError, RunInUseError, StorageError
from residency.platform.registry.changes import (
    Act,
    add_canary,
    add_refused,
    add_stable,
    promote_canary,
    roll_back,
    withdraw_canary,
)
from residency.platform.registry.model_copy import copy_model, read_model
from residency.platform.registry.registry import Registry
from residency.platform.registry.versions import Register, State, Version

MakeModel = Callable[..., Path]
ACT = Act(who="anna", when=1.0, reason="better")


def put(registry: Registry, source: Path, how: str = "stable", share: float = 0.1) -> Register:
    with registry.incoming(source) as incoming:

        def step(register: Register, identity: str) -> Register:
            version = Version(
                id=identity, state=State.RETIRED, model=incoming.model, run="runs/r", checkpoint="rl", who="anna",
                when=1.0, reason="better", evidence=[{"difference": 0.1}],
            )  # fmt: skip
            if how == "canary":
                return add_canary(register, version, share, ACT)
            return (add_stable if how == "stable" else add_refused)(register, version, ACT)

        return registry.add(incoming, step, registry.read().stable)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "blood")


def states(register: Register) -> dict[str, str]:
    return {name: version.state.value for name, version in register.versions.items()}


def test_a_version_keeps_its_files_though_the_run_goes_on(registry: Registry, make_model: MakeModel) -> None:
    source = make_model(1)
    register = put(registry, source)
    (source / "model.safetensors").write_bytes(b"trained on")
    kept = registry.folder_of(register.versions["v1"])
    assert read_model(kept) == register.versions["v1"].model
    assert sorted(path.name for path in kept.iterdir()) == ["config.json", "model.safetensors"]
    registry.check(register.versions["v1"])
    assert register.versions["v1"].evidence == [{"difference": 0.1}]


def test_what_a_server_is_told(registry: Registry, make_model: MakeModel) -> None:
    put(registry, make_model(1))
    register = put(registry, make_model(2), "canary", 0.25)
    state = registry.serving_state(register)
    assert state["model"] == "blood"
    assert (state["stable"], state["canary"]) == ("v1", {"version": "v2", "share": 0.25})
    assert set(state["versions"]) == {"v1", "v2"}
    assert state["versions"]["v2"] == {
        "path": str(registry.path / "versions" / "v2"),
        "digest": register.versions["v2"].model.digest,
        "checkpoint": "rl",
        "adapter": None,
    }


def test_a_canary_becomes_stable_and_a_rollback_undoes_step_by_step(registry: Registry, make_model: MakeModel) -> None:
    put(registry, make_model(1))
    put(registry, make_model(2), "canary")
    register = registry.change(lambda register: promote_canary(register, ACT))
    assert states(register) == {"v1": "retired", "v2": "stable"}
    put(registry, make_model(3))
    register = put(registry, make_model(4), "canary")
    assert states(register) == {"v1": "retired", "v2": "retired", "v3": "stable", "v4": "canary"}
    register = registry.change(lambda register: roll_back(register, ACT))
    assert states(register) == {"v1": "retired", "v2": "retired", "v3": "stable", "v4": "refused"}
    register = registry.change(lambda register: roll_back(register, ACT))
    assert (register.stable, states(register)["v3"]) == ("v2", "retired")
    register = registry.change(lambda register: roll_back(register, ACT))
    assert register.stable == "v1"
    with pytest.raises(BadInputError, match="v1 is the first stable version"):
        registry.change(lambda register: roll_back(register, ACT))
    kinds = [change.kind for change in registry.history()]
    assert kinds == [
        "promoted", "canary_started", "canary_promoted", "promoted", "canary_started", "canary_taken_back",
        "rolled_back", "rolled_back",
    ]  # fmt: skip
    assert all((change.who, change.reason) == ("anna", "better") for change in registry.history())


def test_a_refused_version_leaves_its_record_and_no_weights(registry: Registry, make_model: MakeModel) -> None:
    put(registry, make_model(1))
    register = put(registry, make_model(2), "refused")
    assert (register.stable, states(register)["v2"]) == ("v1", "refused")
    assert not registry.folder_of(register.versions["v2"]).exists()
    assert put(registry, make_model(3)).stable == "v3"


def test_one_canary_at_a_time(registry: Registry, make_model: MakeModel) -> None:
    with pytest.raises(BadInputError, match="no version of blood is on call"):
        put(registry, make_model(1), "canary")
    put(registry, make_model(2))
    put(registry, make_model(3), "canary")
    for how in ("canary", "stable"):
        with pytest.raises(BadInputError, match="v2 is the canary"):
            put(registry, make_model(4 if how == "canary" else 5), how)
    with pytest.raises(BadInputError, match="v9 is not the canary"):
        registry.change(lambda register: withdraw_canary(register, "v9", ACT))
    assert list(registry.path.glob(".incoming-*")) == []


def test_evidence_against_a_version_that_has_left_does_not_count(registry: Registry, make_model: MakeModel) -> None:
    put(registry, make_model(1))
    with (
        registry.incoming(make_model(2)) as incoming,
        pytest.raises(RunInUseError, match="v1 became stable while None"),
    ):
        registry.add(incoming, lambda register, identity: register, None)


def test_two_promotions_at_once_are_refused(registry: Registry, make_model: MakeModel) -> None:
    model = make_model(1)
    with (
        registry.incoming(model),
        pytest.raises(RunInUseError, match="another promotion"),
        registry.incoming(model),
    ):
        pass


def test_a_change_behind_the_registrys_back_is_seen(registry: Registry, make_model: MakeModel) -> None:
    register = put(registry, make_model(1))
    weights = registry.folder_of(register.versions["v1"]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match=r"changed after it was promoted as v1: model\.safetensors"):
        registry.check(register.versions["v1"])


def test_layout_is_everything_but_the_values(make_model: MakeModel, tmp_path: Path) -> None:
    one = copy_model(make_model(1), tmp_path / "a")
    other = copy_model(make_model(2), tmp_path / "b")
    wider = copy_model(make_model(1, shape=8), tmp_path / "c")
    configured = copy_model(make_model(1, shape=4, config='{"eps": 1}'), tmp_path / "d")
    assert one.layout == other.layout
    assert one.digest != other.digest
    assert len({one.layout, wider.layout, configured.layout}) == 3


def test_the_history_is_mended_by_the_next_change(registry: Registry, make_model: MakeModel) -> None:
    """Killed between register and history, and in the middle of a line."""
    put(registry, make_model(1))
    put(registry, make_model(2))
    lines = registry.history_path.read_bytes().splitlines(keepends=True)
    registry.history_path.write_bytes(lines[0] + lines[1][:20])
    assert [change.sequence for change in registry.history()] == [1, 2]
    put(registry, make_model(3))
    assert [change.sequence for change in registry.history()] == [1, 2, 3]
    assert len(registry.history_path.read_bytes().splitlines()) == 4, "only appended to: the torn line is still there"


def test_a_damaged_or_newer_register_is_refused(registry: Registry, make_model: MakeModel) -> None:
    with pytest.raises(BadInputError, match="is no registry"):
        registry.read_existing()
    put(registry, make_model(1))
    text = registry.register_path.read_text()
    registry.register_path.write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(StorageError, match="has format 9"):
        registry.read()
    registry.register_path.write_text(text[:50])
    with pytest.raises(StorageError, match="cannot be read"):
        registry.read()
