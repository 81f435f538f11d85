"""What a server does about its registry, with a real registry and a real audit log; only the engines are told."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from residency.actors.serving.following import Follower
from residency.actors.serving.starting import ServingHandle
from residency.platform.errors import RoleError
from residency.platform.registry.audit_tail import ROUTE
from residency.platform.registry.changes import Act, add_canary, add_stable, promote_canary, roll_back
from residency.platform.registry.registry import Registry
from residency.platform.registry.versions import Register, State, Version
from residency.platform.serving.audit import AuditLog, AuditRecord
from residency.platform.serving.serving_state import ServingState, parse_state

ACT = Act(who="anna", when=0.0, reason="-")


class Told:
    """Takes what is to be on call, or says that it cannot."""

    def __init__(self, states: Sequence[ServingState]) -> None:
        self.states = list(states)
        self.unable: set[str] = set()
        self.during: Callable[[], object] = lambda: None  # happens while a change is being put into effect

    def apply(self, states: Sequence[ServingState], superseded: Callable[[], bool]) -> bool:
        bad = self.unable & {version for state in states for version in state.on_call}
        if bad:
            raise RoleError(f"{', '.join(bad)} does not start")
        self.during()
        if superseded():
            return False
        self.states = list(states)
        return True


class Scene:
    """A registry with v1 on call, a server that follows it, and its audit log."""

    def __init__(self, home: Path) -> None:
        self.registry, self.home = Registry(home / "blood"), home
        self.put(add_stable)
        self.handle = Told([parse_state(self.registry.serving_state(self.registry.read()))])
        self.log, self.said = AuditLog(home / "audit", "door"), list[str]()
        handle = cast(ServingHandle, self.handle)
        self.follower = Follower([self.registry], handle, home / "audit", self.said.append)

    def put(self, how: Callable[..., Register], *more: Any) -> None:
        number = len(self.registry.read().versions)
        model = self.home / "models" / str(number)
        model.mkdir(parents=True)
        header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
        (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes([number]))
        with self.registry.incoming(model) as incoming:

            def step(register: Register, identity: str) -> Register:
                version = Version(
                    id=identity, state=State.RETIRED, model=incoming.model, run="r", checkpoint="rl", who="anna",
                    when=0.0, reason="-",
                )  # fmt: skip
                return how(register, version, *more, ACT)

            self.registry.add(incoming, step, self.registry.read().stable)

    def answer(self, version: str, number: int = 1, **changes: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        usual: dict[str, Any] = {"version": version, "status": 200, "malformed": False, "abstained": False}
        for _ in range(number):
            self.log.write(
                AuditRecord(
                    time=now, request_id="r", key="k", route=ROUTE, model="blood", chosen=version, seconds=0.1,
                    **usual | changes,
                )
            )  # fmt: skip

    @property
    def on_call(self) -> tuple[str, ...]:
        return self.handle.states[0].on_call


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_every_change_is_followed(scene: Scene) -> None:
    scene.put(add_canary, 0.2)
    scene.follower.look()
    assert scene.on_call == ("v1", "v2")
    scene.registry.change(lambda register: promote_canary(register, ACT))
    scene.follower.look()
    assert scene.on_call == ("v2",)
    scene.registry.change(lambda register: roll_back(register, ACT))
    scene.follower.look()
    scene.follower.look()
    assert scene.on_call == ("v1",)
    assert [line.split(", in effect")[0] for line in scene.said] == [
        "blood: canary started v2", "blood: canary promoted v2", "blood: rolled back v1"
    ]  # fmt: skip


def test_a_canary_that_does_worse_is_taken_back(scene: Scene) -> None:
    scene.put(add_canary, 0.2)
    scene.follower.look()
    scene.answer("v1", 60)
    scene.answer("v2", 29, malformed=True)
    scene.follower.look()
    assert scene.on_call == ("v1", "v2"), "29 requests tell nothing"
    scene.answer("v2", malformed=True)
    scene.follower.look()
    assert scene.on_call == ("v1",)
    last = scene.registry.history()[-1]
    assert (last.kind, last.version, last.who) == ("canary_taken_back", "v2", "the server")
    assert last.reason.startswith("100.0% of the answers malformed against 0.0%")
    assert last.details["seen"]["v2"]["requests"] == 30
    assert json.loads(scene.registry.watch_path.read_text())["canary"] == "v2"


def test_a_canary_like_the_stable_version_stays(scene: Scene) -> None:
    scene.put(add_canary, 0.2)
    scene.follower.look()
    for version in ("v1", "v2"):
        scene.answer(version, 90)
        scene.answer(version, 10, malformed=True)
    scene.follower.look()
    assert scene.on_call == ("v1", "v2")


def test_what_cannot_be_served_leaves_the_registry_again(scene: Scene) -> None:
    scene.handle.unable = {"v2", "v3"}
    scene.put(add_canary, 0.2)
    scene.follower.look()
    scene.follower.look()
    assert (scene.on_call, scene.registry.read().canary) == (("v1",), None)
    assert scene.registry.history()[-1].reason == "could not be served: v2 does not start."
    scene.put(add_stable)
    scene.follower.look()
    scene.follower.look()
    assert (scene.on_call, scene.registry.read().stable) == (("v1",), "v1")


def test_a_rollback_overtakes_a_canary_that_is_still_starting(scene: Scene) -> None:
    scene.put(add_canary, 0.2)
    scene.handle.during = lambda: scene.registry.change(lambda register: roll_back(register, ACT))
    scene.follower.look()
    assert scene.on_call == ("v1",)
    scene.handle.during = lambda: None
    scene.follower.look()
    assert scene.on_call == ("v1",)
    assert [change.kind for change in scene.registry.history()][1:] == ["canary_started", "canary_taken_back"]
