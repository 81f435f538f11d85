"""The changes of a register, as pure functions: the register before and a change in, the register after out.

Each raises BadInputError where the change makes no sense in the state that it meets.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from residency.platform.errors import BadInputError
from residency.platform.registry.versions import Canary, Change, Register, State, Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Act:
    """By whom, when (seconds since 1970) and why; ``details`` go into the history."""

    who: str
    when: float
    reason: str
    details: dict[str, Any] = field(default_factory=dict)


def add_stable(register: Register, version: Version, act: Act) -> Register:
    """A new version that answers everything."""
    changed = _with(register, version, State.STABLE)
    return _make_stable(changed, version.id, "promoted", act)


def add_canary(register: Register, version: Version, share: float, act: Act) -> Register:
    """A new version that answers a share of the sessions, beside the stable one."""
    register.stable_version()
    if register.canary is not None:
        raise BadInputError(
            f"{register.canary.version} is the canary",
            "one canary at a time",
            "promote it (the same command without --canary), or take it back with `residency rollback`",
        )
    changed = _with(register, version, State.CANARY)
    canary = Canary(version=version.id, share=share, since=act.when)
    return _changed(msgspec.structs.replace(changed, canary=canary), "canary_started", version.id, act, share=share)


def add_refused(register: Register, version: Version, act: Act) -> Register:
    """A version that did not pass the gate: its record and the evidence stay, its weights do not."""
    return _changed(_with(register, version, State.REFUSED), "refused", version.id, act)


def promote_canary(register: Register, act: Act) -> Register:
    """The canary answers everything."""
    if register.canary is None:
        raise BadInputError("there is no canary", "a canary on call", "promote a checkpoint with --canary first")
    return _make_stable(register, register.canary.version, "canary_promoted", act)


def withdraw_canary(register: Register, version: str, act: Act) -> Register:
    """The canary ``version`` answers nothing any more; the stable version answers everything again."""
    if register.canary is None or register.canary.version != version:
        raise BadInputError(f"{version} is not the canary", "the canary on call", "look at the registry's history")
    changed = _in_state(msgspec.structs.replace(register, canary=None), version, State.REFUSED)
    return _changed(changed, "canary_taken_back", version, act)


def roll_back(register: Register, act: Act) -> Register:
    """The last step is undone: a canary is taken back, else the stable version before is stable again."""
    if register.canary is not None:
        return withdraw_canary(register, register.canary.version, act)
    current = register.stable_version()
    if not register.former:
        raise BadInputError(
            f"{current.id} is the first stable version", "one before it", "promote another checkpoint instead"
        )
    *former, target = register.former
    changed = _in_state(_in_state(register, current.id, State.RETIRED), target, State.STABLE)
    changed = msgspec.structs.replace(changed, stable=target, former=former)
    return _changed(changed, "rolled_back", target, act, left=current.id)


def _make_stable(register: Register, version: str, kind: str, act: Act) -> Register:
    before, former = register.stable, register.former
    if before is not None:
        register, former = _in_state(register, before, State.RETIRED), [*former, before]
    if register.canary is not None and register.canary.version != version:
        raise BadInputError(
            f"{register.canary.version} is the canary",
            "no canary while another version becomes stable",
            "promote the canary, or take it back with `residency rollback`",
        )
    changed = msgspec.structs.replace(
        _in_state(register, version, State.STABLE), stable=version, former=former, canary=None
    )
    return _changed(changed, kind, version, act, before=before)


def _with(register: Register, version: Version, state: State) -> Register:
    assert version.id == register.next_id, (version.id, register.next_id)
    added = {**register.versions, version.id: version}
    return _in_state(msgspec.structs.replace(register, versions=added), version.id, state)


def _in_state(register: Register, version: str, state: State) -> Register:
    moved = msgspec.structs.replace(register.versions[version], state=state)
    return msgspec.structs.replace(register, versions={**register.versions, version: moved})


def _changed(register: Register, kind: str, version: str, act: Act, **details: Any) -> Register:
    change = Change(
        sequence=register.sequence + 1,
        t=act.when,
        kind=kind,
        version=version,
        who=act.who,
        reason=act.reason,
        details={**act.details, **details},
    )
    return msgspec.structs.replace(register, last=change)
