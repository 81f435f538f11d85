"""What was sampled of an item so far, as far as routing must know it."""

from enum import StrEnum

from msgspec import Struct


class Strategy(StrEnum):
    """Why a sample was asked for."""

    SAMPLED = "sampled"  # one of the K
    EXTENDED = "extended"  # beyond them, of a hard item
    REANSWER = "reanswer"  # the answer again, from the masked reasoning of another sample
    WITH_REFERENCE = "with_reference"  # by the last teacher, who was given the answer


class Sample(Struct, frozen=True, kw_only=True, gc=False):
    """One reply and what became of it, at its place among the item's samples.

    ``right`` is None where it was not judged: malformed, or by our own fault. ``fault`` says why a sample can not be
    kept, though it may be right (broken format, leak). ``of`` is the number of the sample that it answers again.
    """

    strategy: Strategy
    teacher: int
    right: bool | None
    fault: str = ""
    of: int = -1


def first_draws(samples: tuple[Sample, ...] | list[Sample], teacher: int = 0) -> tuple[int, int]:
    """(right, judged) of a teacher's free samples: the pass count that the RL curriculum reads."""
    drawn = [s for s in samples if s.teacher == teacher and s.strategy in (Strategy.SAMPLED, Strategy.EXTENDED)]
    return sum(s.right is True for s in drawn), sum(s.right is not None for s in drawn)
