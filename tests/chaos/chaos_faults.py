"""How each fault is made. A function gets the scene and its fault, and says in words what it struck."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from chaos_plan import OBJECTS, Fault, pick
from chaos_scene import Scene, wait_until

ROLE_SECONDS = 30.0  # until a role that is to be struck is there
REFUSAL_SECONDS = 90.0
FULL_SECONDS = 20.0  # that a disk stays full, if the driver lives on
REJOIN_SECONDS = 3.0  # until another node comes, at most
BLOCK = 1 << 16


class NothingToStrike(Exception):
    """The run was over, or the role never came: the fault could not be made."""


def victim(scene: Scene, fault: Fault, actor_class: str) -> psutil.Process:
    """A live process of the role."""
    wait_until(lambda: scene.ended() is not None or bool(scene.nodes.roles(actor_class)), ROLE_SECONDS)
    there = scene.nodes.roles(actor_class)
    if scene.ended() is not None or not there:
        raise NothingToStrike(f"no {actor_class}")
    return there[pick(fault, len(there))]


def kill_role(actor_class: str) -> "Callable[[Scene, Fault], str]":
    def strike(scene: Scene, fault: Fault) -> str:
        process = victim(scene, fault, actor_class)
        title = process.cmdline()[0]
        process.kill()
        return f"{title} (pid {process.pid})"

    return strike


def kill_driver(scene: Scene, fault: Fault) -> str:
    if scene.ended() is not None:
        raise NothingToStrike("the driver was done")
    scene.kill_driver()
    scene.start_driver()
    return "started again"


def kill_node(scene: Scene, fault: Fault) -> str:
    """Its raylet: everything on the node dies with it. Another node comes a little later."""
    raylet = scene.nodes.raylet(scene.nodes.work)
    lost = [process.cmdline()[0] for process in raylet.children() if process.cmdline()]
    raylet.kill()
    time.sleep(fault.choice * REJOIN_SECONDS)
    scene.nodes.add_work()
    return ", ".join(sorted(title for title in lost if title.startswith("ray::") and "IDLE" not in title))


def hang_verifier(scene: Scene, fault: Fault) -> str:
    """The judge's own process stops for good, or the whole verifier for some seconds."""
    process = victim(scene, fault, "VerifierActor")
    judges = [child for child in process.children() if "judge_child" in " ".join(child.cmdline())]
    if judges and fault.choice < 0.5:
        judges[0].send_signal(signal.SIGSTOP)
        return f"its judge (pid {judges[0].pid}), for good"
    stall(process, fault.seconds)
    return f"pid {process.pid}, for {fault.seconds:.1f} s"


def stall(process: psutil.Process, seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    if process.is_running():
        process.send_signal(signal.SIGCONT)


def delay_heartbeat(scene: Scene, fault: Fault) -> str:
    """The node's raylet stands still: short of being taken for dead, or beyond it."""
    raylet = scene.nodes.raylet(scene.nodes.work)
    stall(raylet, fault.seconds)
    if wait_until(lambda: not raylet.is_running() or raylet.status() == psutil.STATUS_ZOMBIE, 2.0):
        scene.nodes.add_work()
        return f"{fault.seconds:.1f} s: the node was taken for dead, and another came"
    return f"{fault.seconds:.1f} s: the node stayed"


def fill_disk(scene: Scene, fault: Fault) -> str:
    """Not a byte is left until the driver has ended, or for some seconds; then there is room again."""
    if not os.path.ismount(scene.folder):
        raise NothingToStrike("no disk may be mounted here")
    filler = scene.folder / "filler"
    fill(filler)
    ended = wait_until(lambda: scene.ended() is not None, FULL_SECONDS)
    filler.unlink()
    if not ended:
        return f"for {FULL_SECONDS:.0f} s; the driver went on"
    if scene.ended() == 0:
        return "while the driver ended"
    words = scene.note_end()
    scene.ends.pop()  # it may end here, if it says why
    if "StorageError" not in words and "No space left" not in words and "could not be written" not in words:
        scene.ends.append(f"on a full disk without saying so: {words}")
    scene.start_driver()
    return f"the driver ended ({words}) and was started again"


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        size = BLOCK
        while size:
            try:
                file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2


def lose_object(scene: Scene, fault: Fault) -> str:
    """The next object of a kind is handed on by the driver as one whose owner has died with it."""
    kind, order = OBJECTS[pick(fault, len(OBJECTS))], scene.run.parent / "lose"
    order.write_text(kind)
    wait_until(lambda: scene.ended() is not None or not order.exists(), ROLE_SECONDS)
    if order.exists():
        order.unlink()
        raise NothingToStrike(f"no {kind} came by")
    return kind


def start_second_driver(scene: Scene, fault: Fault) -> str:
    """It must be refused, and the first must go on."""
    wait_until(lambda: scene.ended() is not None or scene.holds_the_lock(), ROLE_SECONDS)
    if scene.ended() is not None:
        raise NothingToStrike("the driver was done")
    second = scene.second
    assert second is not None
    try:
        _, said = second.communicate("now\n", REFUSAL_SECONDS)
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"a second driver was not refused within {REFUSAL_SECONDS:.0f} s") from None
    if "is in use by process" not in said or second.returncode == 0:
        if scene.ended() == 0:
            raise NothingToStrike("the driver was done before the second came")
        scene.ends.append(f"a second driver was not refused: exit code {second.returncode}: {said[-300:]}")
    return "refused"


STRIKES: dict[str, Callable[[Scene, Fault], str]] = {
    "generator killed": kill_role("SimulatedGeneratorActor"),
    "verifier killed": kill_role("VerifierActor"),
    "synthesizer killed": kill_role("SynthesizerActor"),
    "publisher killed": kill_role("PublisherActor"),
    "learner rank killed": kill_role("LearnerActor"),
    "driver killed": kill_driver,
    "node killed": kill_node,
    "verifier hung": hang_verifier,
    "heartbeat delayed": delay_heartbeat,
    "disk full": fill_disk,
    "object lost": lose_object,
    "second driver": start_second_driver,
}


def strike(scene: Scene, fault: Fault) -> str:
    """Makes the fault; what was struck, in words."""
    if fault.name == "generator killed" and scene.kind == "vllm":
        return kill_role("GeneratorActor")(scene, fault)
    return STRIKES[fault.name](scene, fault)
