"""The last line of a benchmark's standard output: one JSON document of the shape that DESIGN §2 gives."""

import json
import sys
from collections.abc import Mapping
from typing import Any


def report(benchmark: str, value: float, unit: str, goal: float, meets: bool, details: Mapping[str, Any]) -> None:
    """Print the result line; ``value`` is the hardest of several numbers, ``meets`` true only if all hold."""
    document = {
        "benchmark": benchmark,
        "value": value,
        "unit": unit,
        "goal": goal,
        "meets": meets,
        "details": dict(details),
    }
    sys.stdout.flush()
    print(json.dumps(document), flush=True)
