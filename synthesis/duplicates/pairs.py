"""What is said of two items that share something: the verdict, the evidence, and what follows from it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from residency.platform.records import short_hash


class PairVerdict(StrEnum):
    LEAK = "leak"  # the same question stands in a benchmark, or in a stricter split of the data
    DUPLICATE = "duplicate"  # the same question with the same answer, earlier in the same split
    CONFLICT = "conflict"  # the same question with another answer
    PATIENT_OVERLAP = "patient_overlap"  # the same patient or study on the other side of a split
    SAME_IMAGE = "same_image_other_question"


class Decision(StrEnum):
    KEEP = "keep"
    DROP_FIRST = "drop_first"
    DROP_SECOND = "drop_second"
    DROP_BOTH = "drop_both"


class Agreement(StrEnum):
    """Which keys of the two agree."""

    CONTENT = "content"  # question, options and media, byte for byte
    IMAGES = "images"  # the same media hashes
    SIMILAR_IMAGES = "similar_images"  # the same pictures by perceptual hash and alignment
    QUESTION = "question"  # the normal form of the question
    SIMILAR_QUESTION = "similar_question"
    ANSWER = "answer"  # the normal form of the answer
    PATIENT = "patient"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two items and why they were put together.

    ``first`` is the one that stays by default: it lies on the stricter side (benchmark, held_out, tune, train), or
    came earlier. ``similarity`` is of the questions, 0–1; ``hash_distance`` the largest number of differing bits (of
    64) between pictures in the same place, None without pictures in common.
    """

    first: str
    first_side: str
    second: str
    second_side: str
    verdict: PairVerdict
    agreements: tuple[Agreement, ...]
    similarity: float
    hash_distance: int | None
    decision: Decision

    @property
    def id(self) -> str:
        return short_hash(self.first_side, self.first, self.second_side, self.second, self.verdict)

    def dropped(self) -> tuple[str, ...]:
        """Ids of the items that this pair takes out; an item of a benchmark is never ours to take out."""
        match self.decision:
            case Decision.KEEP:
                return ()
            case Decision.DROP_FIRST:
                chosen = ((self.first_side, self.first),)
            case Decision.DROP_SECOND:
                chosen = ((self.second_side, self.second),)
            case Decision.DROP_BOTH:
                chosen = ((self.first_side, self.first), (self.second_side, self.second))
        return tuple(key for side, key in chosen if not side.startswith(BENCHMARK_PREFIX))


BENCHMARK_PREFIX = "benchmark:"


def default_decision(verdict: PairVerdict, first_side: str, within_split: bool = True) -> Decision:
    """What happens to a pair that nobody overrules: of two answers to one question neither is to be trusted.

    Without ``within_split`` repeats within one split stay.
    """
    match verdict:
        case PairVerdict.SAME_IMAGE:
            return Decision.KEEP
        case PairVerdict.DUPLICATE if not within_split:
            return Decision.KEEP
        case PairVerdict.CONFLICT if not first_side.startswith(BENCHMARK_PREFIX):
            return Decision.DROP_BOTH
        case _:
            return Decision.DROP_SECOND


def overruled(pairs: Iterable[Pair], decisions: Mapping[str, Decision]) -> Iterator[Pair]:
    """The pairs, with a person's decision where there is one."""
    for pair in pairs:
        decision = decisions.get(pair.id) if decisions else None
        if decision is None or decision == pair.decision:
            yield pair
        else:
            yield Pair(
                first=pair.first,
                first_side=pair.first_side,
                second=pair.second,
                second_side=pair.second_side,
                verdict=pair.verdict,
                agreements=pair.agreements,
                similarity=pair.similarity,
                hash_distance=pair.hash_distance,
                decision=decision,
            )
