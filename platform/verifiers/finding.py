"""What the rule of one answer kind says of one answer span."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

NOTHING: Mapping[str, float] = MappingProxyType({})


class Finding(NamedTuple):
    """``accuracy`` is 0–1, or None where the span holds nothing to judge (an abstention); ``rule`` says why."""

    accuracy: float | None
    rule: str
    parts: Mapping[str, float] = NOTHING


def right_or_wrong(right: bool, rule: str) -> Finding:
    return Finding(1.0 if right else 0.0, rule)
