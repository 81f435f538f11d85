"""A running server follows its registries: what is on call there is put into effect, and canaries are watched.

Whatever changes a register (a promotion, a rollback, this very watch), the server sees it at its next look, half a
second later. Of several servers on one registry each watches its own traffic; the first that sees a canary do worse
takes it back for all.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from residency.actors.serving.canary_watch import CanaryTrial
from residency.actors.serving.starting import ServingHandle
from residency.platform.errors import BadInputError, ModelError, RoleError
from residency.platform.registry.changes import Act, roll_back, withdraw_canary
from residency.platform.registry.registry import Registry
from residency.platform.registry.versions import Register
from residency.platform.serving.serving_state import ServingState, parse_state

LOOK_SECONDS = 0.5
SERVER = "the server"

Tell = Callable[[str], None]


class Followed:
    """One registry: the state that it was last seen in, and its canary's trial."""

    def __init__(self, registry: Registry, audit: Path) -> None:
        self.registry, self._audit = registry, audit
        self.register = registry.read_existing()
        self.trial: CanaryTrial | None = None
        self.watch_anew()

    @property
    def changed(self) -> bool:
        """Whether the register has gone on since it was seen."""
        return self.registry.read().sequence != self.register.sequence

    @property
    def state(self) -> ServingState:
        return parse_state(self.registry.serving_state(self.register))

    def see(self) -> None:
        """The register as it is now."""
        self.register = self.registry.read_existing()

    def watch_anew(self) -> None:
        """Once a change is in effect: the trial of the canary that is on call now."""
        canary = self.register.canary
        if canary is None:
            self.trial = None
        elif self.trial is None or self.trial.watch.canary != canary.version:
            self.trial = CanaryTrial(self.registry, self.register, self._audit)

    def undo(self, step: Callable[[Register], Register]) -> None:
        """Changes the register, unless someone else did since it was seen: then the next look follows that."""

        def unless_changed(now: Register) -> Register:
            if now.sequence != self.register.sequence:
                raise BadInputError("the register has changed", "the state that was judged")
            return step(now)

        try:
            self.registry.change(unless_changed)
        except BadInputError:
            return


class Follower:
    """``look`` again and again. ``registries`` are in the order of the handle's states; None is followed by nothing."""

    def __init__(self, registries: Sequence[Registry | None], handle: ServingHandle, audit: Path, tell: Tell) -> None:
        self._handle, self._tell = handle, tell
        self._followed = [Followed(registry, audit) if registry is not None else None for registry in registries]
        self._states = list(handle.states)

    def look(self) -> None:
        """Follow what changed and look at the canaries. Returns when what changed is in effect, or is changed again."""
        for one in self._all:
            if one.trial is not None and not one.changed and (why := one.trial.look()):
                canary, seen = one.trial.watch.canary, one.trial.watch.summary()
                act = Act(who=SERVER, when=time.time(), reason=why, details={"seen": seen})
                one.undo(lambda now: withdraw_canary(now, canary, act))  # noqa: B023
                self._tell(f"{canary} is taken back: {why}")
        changed = [one for one in self._all if one.changed]
        for one in changed:
            one.see()
        if changed or self._wanted != self._handle.states:
            self._apply(changed)

    @property
    def _all(self) -> list[Followed]:
        return [one for one in self._followed if one is not None]

    @property
    def _wanted(self) -> list[ServingState]:
        pairs = zip(self._followed, self._states, strict=True)
        return [state if one is None else one.state for one, state in pairs]

    def _apply(self, changed: Sequence[Followed]) -> None:
        began = time.monotonic()
        try:
            done = self._handle.apply(self._wanted, superseded=lambda: any(one.changed for one in self._all))
        except (RoleError, ModelError) as error:
            self._step_back(changed, error)
            return
        if not done:
            return
        for one in changed:
            last = one.register.last
            assert last is not None
            self._tell(
                f"{one.register.model}: {last.kind.replace('_', ' ')} {last.version}, in effect after"
                f" {time.monotonic() - began:.1f} s"
            )
            one.watch_anew()

    def _step_back(self, changed: Sequence[Followed], error: Exception) -> None:
        """What cannot be put into effect leaves its register again; raises the error where nothing is left to go to."""
        possible = [one for one in changed if one.register.canary is not None or one.register.former]
        if not possible:
            raise error
        for one in possible:
            act = Act(who=SERVER, when=time.time(), reason=f"could not be served: {error}")
            one.undo(lambda now: roll_back(now, act))  # noqa: B023
            self._tell(f"{one.register.model}: {act.reason}; a step back")
