"""One item on its way: the samples that were asked for it, in order, and what came back."""

from dataclasses import dataclass, field

from residency.platform.records import Item, Verdict
from residency.synthesis.routing.actions import Ask, Escalate, MaskedReanswer
from residency.synthesis.routing.samples import Sample, Strategy
from residency.synthesis.teachers.teacher import TeacherReply


@dataclass(slots=True, eq=False)
class Life:
    """``samples[n]`` is None while reply or verdict of sample n are missing. ``is_parked``: it has a dead letter."""

    item: Item
    jobs: list["Job"] = field(default_factory=list)
    samples: list[Sample | None] = field(default_factory=list)
    replies: list[TeacherReply | None] = field(default_factory=list)
    verdicts: list[Verdict | None] = field(default_factory=list)
    num_pending: int = 0
    is_parked: bool = False

    def text(self, number: int) -> str:
        reply = self.replies[number]
        assert reply is not None, "a sample is re-answered after it was answered"
        return reply.text

    def settled(self) -> list[Sample]:
        """The samples; to be asked when none is pending."""
        return [sample for sample in self.samples if sample is not None]


@dataclass(slots=True, eq=False)
class Job:
    """Sample ``number`` of an item, under its key of the journal."""

    life: Life
    number: int
    key: str
    teacher: int
    strategy: Strategy
    temperature: float
    seed: int
    of: int = -1

    def asks(self, teacher: str, prompt_hash: str) -> str:
        """What the journal holds as the request: a changed recipe is found out by it."""
        of = f" of {self.of}" if self.of >= 0 else ""
        return f"{teacher} {self.strategy}{of} prompt {prompt_hash[:16]} T={self.temperature:g} seed {self.seed}"


def add_jobs(life: Life, action: Ask | Escalate | MaskedReanswer, prefix: str, seed: int) -> list[Job]:
    """The jobs of an action, numbered on from what the life has; sample n is drawn with ``seed`` + n."""
    match action:
        case Ask():
            plan = [(action.strategy, action.temperature, -1)] * action.n
        case Escalate():
            plan = [(Strategy.WITH_REFERENCE, action.temperature, -1)] * action.n
        case MaskedReanswer():
            plan = [(Strategy.REANSWER, 0.0, of) for of in action.samples]
    jobs = []
    for number, (strategy, temperature, of) in enumerate(plan, start=len(life.jobs)):
        key = f"{prefix}/{life.item.id}/{number}"
        jobs.append(Job(life, number, key, action.teacher, strategy, temperature, seed + number, of))
    life.jobs += jobs
    life.samples += [None] * len(jobs)
    life.replies += [None] * len(jobs)
    life.verdicts += [None] * len(jobs)
    life.num_pending += len(jobs)
    return jobs
