"""Forks a writer that promotes, watches and rolls back without end, kills it at a random moment, and looks; many times.

In a process of its own, because only one without threads may fork. Arguments: registry folder, model folder, kills.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

from residency.platform.errors import BadInputError
from residency.platform.registry.changes import Act, add_canary, add_refused, add_stable, promote_canary, roll_back
from residency.platform.registry.registry import Registry
from residency.platform.registry.versions import ModelFiles, Register, State, Version


def added(register: Register, identity: str, model: ModelFiles, act: Act, turn: int) -> Register:
    """The register with one more version: stable, canary or refused in turn."""
    version = Version(
        id=identity, state=State.RETIRED, model=model, run="runs/r", checkpoint="sft", who=act.who, when=act.when,
        reason=act.reason,
    )  # fmt: skip
    if register.stable is None or turn % 4 == 1:
        return add_stable(register, version, act)
    return add_canary(register, version, 0.1, act) if turn % 4 == 2 else add_refused(register, version, act)


def write_without_end(folder: Path, model: Path, told: int) -> None:
    """Every sequence number goes to the pipe ``told`` once its change has returned."""
    registry = Registry(folder)
    for turn in range(registry.read().sequence, 1_000_000):
        act = Act(who="test", when=time.time(), reason=f"turn {turn}")
        with registry.incoming(model) as incoming:
            after = registry.add(
                incoming,
                lambda register, identity: added(register, identity, incoming.model, act, turn),  # noqa: B023
                registry.read().stable,
            )
        os.write(told, b"%d\n" % after.sequence)
        if after.canary is not None or turn % 3 == 0:
            step = promote_canary if turn % 2 else roll_back
            try:
                after = registry.change(lambda register: step(register, act))  # noqa: B023
            except BadInputError:
                continue
            os.write(told, b"%d\n" % after.sequence)


def check_whole(registry: Registry) -> None:
    """What every reader may count on, whenever it looks."""
    register = registry.read()
    if register.stable is not None:
        canary = [register.canary.version] if register.canary else []
        for name in [register.stable, *canary, *register.former[-1:]]:  # on call, and where a rollback leads
            registry.check(register.versions[name])


def main(folder: Path, model: Path, kills: int) -> None:
    registry, dice = Registry(folder), random.Random(time.time_ns())
    for life in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            write_without_end(folder, model, writing)
        os.close(writing)
        told = os.read(reading, 100) if life % 3 else b""  # mostly while it goes on, sometimes in its very first change
        until = time.monotonic() + dice.uniform(0.0, 0.15)
        while time.monotonic() < until:
            check_whole(registry)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading) as pipe:
            told += pipe.read().encode()
        register = registry.read()
        assert register.sequence >= max([0, *map(int, told.split())]), "what was told is there"
        check_whole(registry)
        assert [change.sequence for change in registry.history()] == list(range(1, register.sequence + 1))
        assert set(register.versions) == {f"v{number + 1}" for number in range(len(register.versions))}
    print(registry.read().sequence)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
