"""Which split a row goes to: as the user says, as the row says, or by a share of patients; never through a patient."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from residency.platform.errors import BadInputError
from residency.platform.records import Split
from residency.synthesis.benchmarks.published_files import UnusableRow

NAMES = {
    "train": Split.TRAIN, "training": Split.TRAIN, "tune": Split.TUNE, "val": Split.TUNE, "valid": Split.TUNE,
    "validate": Split.TUNE, "validation": Split.TUNE, "dev": Split.TUNE, "test": Split.HELD_OUT,
    "testing": Split.HELD_OUT, "held_out": Split.HELD_OUT, "held-out": Split.HELD_OUT,
}  # fmt: skip
Shares = Mapping[Split, float]


def split_by_patient(unit: str, shares: Shares, seed: int = 0) -> Split:
    """The split of a patient (or study, or image): the same unit, shares and seed give the same split, in any order.

    It draws by a hash, so a share is met within the chance of as many draws as there are units.
    """
    digest = hashlib.sha256(f"{seed}\0{unit}".encode()).digest()
    drawn = int.from_bytes(digest[:8]) / 2**64
    splits = [split for split, share in shares.items() if share > 0]
    for split, bound in zip(splits, accumulate(shares[split] for split in splits), strict=True):
        if drawn < bound:
            return split
    return splits[-1]


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """``shares`` has one split of share 1, or several that sum to 1. ``seed`` is of the draw."""

    shares: Shares
    seed: int = 0

    @classmethod
    def parse(cls, text: str, seed: int) -> "SplitPlan":
        """``train``, or ``train=0.8,tune=0.1,held_out=0.1``; raises BadInputError for anything else."""
        shares: dict[Split, float] = {}
        for part in text.split(","):
            name, mark, share = (piece.strip() for piece in part.partition("="))
            try:
                value = float(share) if mark else 1.0
            except ValueError:
                value = -1.0
            if name not in NAMES or not 0 <= value <= 1 or NAMES.get(name) in shares:
                raise BadInputError(
                    f"--split {text}", "train, tune or held_out, or shares: train=0.8,tune=0.1,held_out=0.1"
                )
            shares[NAMES[name]] = value
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise BadInputError(f"--split {text}: the shares sum to {sum(shares.values()):g}", "shares that sum to 1")
        return cls(shares, seed)

    def split_of(self, unit: str, own: str | None) -> Split:
        """The row's own split where it says one, else by its unit; raises UnusableRow for a split of no known name."""
        if own is None:
            return split_by_patient(unit, self.shares, self.seed)
        split = NAMES.get(own.strip().casefold())
        if split is None:
            raise UnusableRow("its split has no known name", f"{own!r}, known: {', '.join(NAMES)}")
        return split

    def describe(self) -> str:
        """One line for the dataset's card."""
        if len(self.shares) == 1:
            return f"all rows are {next(iter(self.shares)).value}, but for rows whose own column says another"
        parts = ", ".join(f"{share:g} {split.value}" for split, share in self.shares.items())
        return (
            f"{parts}, drawn with seed {self.seed} by patient, study, first image or question: the first that is known"
        )
