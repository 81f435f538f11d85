"""Which faults a chaos run meets and when: everything follows from its seed."""

import random
from dataclasses import dataclass

from chaos_job import Kind

FAULTS = (
    "generator killed",
    "verifier killed",
    "synthesizer killed",
    "publisher killed",
    "learner rank killed",
    "driver killed",
    "node killed",
    "verifier hung",
    "heartbeat delayed",
    "disk full",
    "object lost",
    "second driver",
)
OBJECTS = ("rollouts", "traces", "judged", "batch", "weights")
NUM_FAULTS = 3
FIRST, LAST = 0.03, 0.9  # shares of the unbroken run's journal between which faults fall
LONGEST_PAUSE = 0.4  # seconds from a commit of the journal to the fault


@dataclass(frozen=True, kw_only=True)
class Fault:
    """``moment``: the share of the unbroken run's journal (bytes) that must be there; ``pause`` seconds after that.

    ``choice`` in [0, 1) picks among what the fault could strike; ``seconds`` is how long a delay lasts.
    """

    name: str
    moment: float
    pause: float
    choice: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    seed: int
    kind: Kind
    faults: tuple[Fault, ...]


def kind_of(seed: int) -> Kind:
    """In each hundred seeds 85 light ones, 12 with DeepSpeed, 3 with DeepSpeed and vLLM; the first eight are light."""
    place = seed % 100
    if place in (33, 66, 99):
        return "vllm"
    return "deepspeed" if place % 8 == 1 and place > 8 or place == 32 else "light"


def plan_of(seed: int) -> Plan:
    """Three different faults, in the order of their moments."""
    rng = random.Random(f"chaos/{seed}")
    names = rng.sample(FAULTS, NUM_FAULTS)
    moments = sorted(rng.uniform(FIRST, LAST) for _ in names)
    faults = [
        Fault(
            name=name, moment=moment, pause=rng.uniform(0.0, LONGEST_PAUSE), choice=rng.random(),
            seconds=rng.uniform(1.0, 9.0),
        )
        for name, moment in zip(names, moments, strict=True)
    ]  # fmt: skip
    return Plan(seed=seed, kind=kind_of(seed), faults=tuple(faults))


def pick(fault: Fault, among: int) -> int:
    """Which of so many things it strikes."""
    return int(fault.choice * among)
