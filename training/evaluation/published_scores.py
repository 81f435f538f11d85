"""Scores of the seven benchmarks as their papers print them, to stand beside our own: no n, no interval, no chance.

Source: InfiMed, arXiv 2505.23867v3, main results. Prompts, splits and the answers' reading are theirs; MMMU-Med is the
validation split (150 questions), PMC-VQA test_2.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PUBLISHED_SOURCE = "arXiv 2505.23867v3"
BENCHMARKS = ("MMMU-Med", "VQA-RAD", "SLAKE", "PathVQA", "PMC-VQA", "OmniMedVQA", "MedXpertQA-MM")
PUBLISHED_N: Mapping[str, tuple[int, ...]] = {
    "MMMU-Med": (150, 1752),  # validation, test
    "VQA-RAD": (451,),
    "SLAKE": (2094,),
    "PathVQA": (6719,),
    "PMC-VQA": (33430,),  # test_2
    "OmniMedVQA": (88996,),  # open access
    "MedXpertQA-MM": (2000,),
}


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """Percent right by benchmark, in the order of ``BENCHMARKS``, and their unweighted mean as printed."""

    model: str
    percent: tuple[float, ...]
    mean: float
    source: str = PUBLISHED_SOURCE


PUBLISHED_SCORES = (
    PublishedScore("Qwen2.5-VL-3B", (51.3, 56.8, 63.2, 37.1, 50.6, 64.5, 20.7), 49.2),
    PublishedScore("InternVL3-8B", (59.2, 65.4, 72.8, 48.6, 53.8, 79.1, 22.4), 57.3),
    PublishedScore("Lingshu-7B", (54.0, 67.9, 83.1, 61.9, 56.3, 82.9, 26.7), 61.8),
    PublishedScore("InfiMed-SFT-3B", (54.67, 58.09, 82.00, 60.59, 53.22, 67.01, 23.55), 57.02),
    PublishedScore("InfiMed-RL-3B", (55.33, 60.53, 82.38, 61.97, 58.74, 71.71, 23.60), 59.18),
)


def benchmark_of(dataset: str) -> str | None:
    """The benchmark that a dataset's name begins with (``pmc-vqa test_clean`` is PMC-VQA), or None."""
    name = _letters(dataset)
    keys = {benchmark: _letters(benchmark).removesuffix("mm") for benchmark in BENCHMARKS}
    return next((benchmark for benchmark, key in keys.items() if name.startswith(key)), None)


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
