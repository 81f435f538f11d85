"""What is to be done next with an item."""

from msgspec import Struct

from residency.synthesis.routing.samples import Strategy


class Ask(Struct, frozen=True, kw_only=True):
    """``n`` samples more of this teacher."""

    n: int
    temperature: float
    teacher: int
    strategy: Strategy = Strategy.SAMPLED


class MaskedReanswer(Struct, frozen=True, kw_only=True):
    """Each of these samples: its reasoning without its answer, for a second call to answer from (greedily)."""

    samples: tuple[int, ...]
    teacher: int


class Escalate(Struct, frozen=True, kw_only=True):
    """``n`` samples of a stronger teacher that has the reference answer in hand."""

    n: int
    temperature: float
    teacher: int


class Accept(Struct, frozen=True, kw_only=True):
    """The item is solved, by these samples."""

    samples: tuple[int, ...]


class Drop(Struct, frozen=True, kw_only=True):
    """The item comes to nothing, for this reason."""

    reason: str


Action = Ask | MaskedReanswer | Escalate | Accept | Drop
