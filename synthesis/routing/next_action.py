"""Routing: what an item's samples so far ask for next. Pure, so that a run that was killed comes to the same again.

Called only when every sample that was asked for is there. InfiMed2's rule (K = 8, C right): C 6–8 are kept if a second
call comes to the same answer from the masked reasoning; C 3–5 go to a stronger teacher with the reference in hand; C
below 3 drop. Thresholds are shares of what was judged (``RoutingConfig``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from residency.platform.records import Item
from residency.platform.synthesis_config import RoutingConfig, SynthesisConfig
from residency.synthesis.routing.actions import Accept, Action, Ask, Drop, Escalate, MaskedReanswer
from residency.synthesis.routing.samples import Sample, Strategy, first_draws

FREE = (Strategy.SAMPLED, Strategy.EXTENDED)
PLAIN = RoutingConfig(easy_from=0.0, drop_below=0.0, masked_reanswer=False, reference=False, malformed_retries=0)


@dataclass(frozen=True, kw_only=True)
class Routing:
    """``config`` None: all right samples are kept, and what is unsolved is the next teacher's."""

    config: RoutingConfig | None
    teachers: int  # those that are asked, in order
    samples: int  # K
    temperature: float

    @classmethod
    def of(cls, config: SynthesisConfig, teachers: int) -> "Routing":
        return cls(config=config.routing, teachers=teachers, samples=config.samples, temperature=config.temperature)

    @property
    def rules(self) -> RoutingConfig:
        return PLAIN if self.config is None else self.config


def next_action(item: Item, samples: Sequence[Sample], routing: Routing) -> Action:
    """What to do with an item. The same samples always give the same action."""
    rules = routing.rules
    teacher = max((sample.teacher for sample in samples), default=0)
    if with_reference(rules, routing, teacher):
        return after_reference(samples, routing, teacher)
    right, judged = first_draws(list(samples), teacher)
    if (more := more_samples(samples, routing, teacher, right, judged)) is not None:
        return more
    share = right / judged if judged else 0.0
    solved = right > 0 and (share >= rules.easy_from or (rules.enough is not None and right >= rules.enough))
    last = teacher + 1 >= routing.teachers
    if not judged:
        return after_nothing(samples, routing, teacher, last)
    if right == 0 and rules.drop_below == 0.0 and not last:
        return next_teacher(routing, teacher)  # unsolved: the next teacher's turn
    if right == 0 or (share < rules.drop_below and not solved):
        return Drop(reason=f"right in {right} of {judged} samples")
    if not solved and not last:
        return next_teacher(routing, teacher)
    return keep(samples, routing, teacher, last)


def with_reference(rules: RoutingConfig, routing: Routing, teacher: int) -> bool:
    """Whether this teacher is the last of several, and is given the reference."""
    return rules.reference and routing.teachers > 1 and teacher == routing.teachers - 1


def more_samples(samples: Sequence[Sample], routing: Routing, teacher: int, right: int, judged: int) -> Ask | None:
    """The samples still to be asked of this teacher: up to K, beyond it for hard items; None where it is enough."""
    rules = routing.rules
    own = [sample for sample in samples if sample.teacher == teacher and sample.strategy in FREE]
    if rules.enough is not None and right >= rules.enough:
        return None
    # malformed replies are asked anew within K while retries are left; after that fewer than K are judged
    spoiled = len(own) - judged
    wanted = routing.samples + min(spoiled, rules.malformed_retries)
    if len(own) < wanted:
        missing = wanted - len(own)
        n = missing if rules.enough is None else min(missing, rules.enough - right)
        return Ask(n=n, temperature=routing.temperature, teacher=teacher)
    hard = judged > 0 and right < rules.drop_below * judged
    if hard and len(own) < wanted + rules.extension:
        n = wanted + rules.extension - len(own)
        return Ask(n=n, temperature=rules.extension_temperature, teacher=teacher, strategy=Strategy.EXTENDED)
    return None


def next_teacher(routing: Routing, teacher: int) -> Ask | Escalate:
    rules, following = routing.rules, teacher + 1
    if with_reference(rules, routing, following):
        return Escalate(n=rules.escalation_samples, temperature=routing.temperature, teacher=following)
    n = routing.samples if rules.enough is None else min(routing.samples, rules.enough)
    return Ask(n=n, temperature=routing.temperature, teacher=following)


def keep(samples: Sequence[Sample], routing: Routing, teacher: int, last: bool) -> Action:
    """The right samples in sound form, if a second call comes to the answer from their masked reasoning."""
    sound = [
        number
        for number, sample in enumerate(samples)
        if sample.teacher == teacher and sample.strategy in FREE and sample.right and not sample.fault
    ]
    if not sound:
        return Drop(reason="right only in a form that cannot be kept") if last else next_teacher(routing, teacher)
    if not routing.rules.masked_reanswer:
        return Accept(samples=tuple(sound))
    again = {sample.of: sample for sample in samples if sample.strategy is Strategy.REANSWER}
    unasked = tuple(number for number in sound if number not in again)
    if unasked:
        return MaskedReanswer(samples=unasked, teacher=teacher)
    kept = tuple(number for number in sound if again[number].right)
    if kept:
        return Accept(samples=kept)
    return Drop(reason="no reasoning leads to its answer again") if last else next_teacher(routing, teacher)


def after_reference(samples: Sequence[Sample], routing: Routing, teacher: int) -> Action:
    """Samples of the teacher that has the reference: right, sound, and without a word of it; malformed ones anew."""
    rules = routing.rules
    own = [(number, sample) for number, sample in enumerate(samples) if sample.teacher == teacher]
    kept = tuple(number for number, sample in own if sample.right and not sample.fault)
    if kept:
        return Accept(samples=kept)
    spoiled = sum(sample.right is None for _, sample in own)
    wanted = rules.escalation_samples + min(spoiled, rules.malformed_retries)
    if len(own) < wanted:
        return Escalate(n=wanted - len(own), temperature=routing.temperature, teacher=teacher)
    faults = sorted({sample.fault or "wrong answer" for _, sample in own})
    return Drop(reason=f"nothing to keep from the teacher with the reference: {', '.join(faults)}")


def after_nothing(samples: Sequence[Sample], routing: Routing, teacher: int, last: bool) -> Action:
    """No sample of this teacher could be judged."""
    if not last:
        return next_teacher(routing, teacher)
    faults = sorted({sample.fault for sample in samples if sample.teacher == teacher and sample.fault})
    return Drop(reason=f"no sample could be judged: {'; '.join(faults)}"[:300])
