from math import sqrt
from typing import Any

import pytest

from residency.training.evaluation.markdown import markdown_seven
from residency.training.evaluation.published_scores import BENCHMARKS, PUBLISHED_N, PUBLISHED_SCORES, benchmark_of
from residency.training.evaluation.seven_mean import seven_means


def rows(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """All seven, whole; ``changes`` by benchmark's position, as ``b2``."""
    found = []
    for number, benchmark in enumerate(BENCHMARKS):
        row = {"checkpoint": "rl", "dataset": benchmark.lower(), "seed": 0, "prompt_mode": "think"}
        row |= {"decoding": "greedy", "image": "true", "profile": "strict-1", "n": PUBLISHED_N[benchmark][0]}
        row |= {"accuracy": 0.1 * (number + 1), "ci95": [0.1 * (number + 1) - 0.03, 0.1 * (number + 1) + 0.04]}
        found.append(row | {"errors": 0} | changes.get(f"b{number}", {}))
    return found


def test_mean_of_seven_worked_by_hand() -> None:
    (found,) = seven_means(rows())
    assert found["missing"] == []
    assert found["mean"] == pytest.approx(0.4)
    assert found["ci95"] == pytest.approx([0.4 - 0.03 / sqrt(7), 0.4 + 0.04 / sqrt(7)])


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"n": 2093}, "slake: 2,093 questions of 2,094"),
        ({"n": 2092, "errors": 2}, "slake: 2 answers have no score"),
        ({"dataset": "slake test-en", "n": 1061}, "slake test-en: 1,061 questions of 2,094"),
        ({"image": "blank"}, "SLAKE: not evaluated"),
        ({"dataset": "starter"}, "SLAKE: not evaluated"),
    ],
)
def test_a_set_that_is_not_whole_gives_no_mean(change: dict[str, Any], wanted: str) -> None:
    (found,) = seven_means(rows(b2=change))
    assert (found["mean"], found["ci95"]) == (None, None)
    assert len(found["missing"]) == 1
    assert wanted in found["missing"][0]
    assert len(found["accuracies"]) == 6
    assert f"No mean for rl (think, greedy, strict-1, seed 0): {found['missing'][0]}" in markdown_seven([found])


def test_pooled_seeds_count_each_question_once() -> None:
    pooled = [row | {"seed": None, "seeds": 3, "n": 3 * row["n"], "questions": 3 * row["n"]} for row in rows()]
    assert seven_means(pooled)[0]["mean"] == pytest.approx(0.4)


def test_checkpoints_and_profiles_have_means_of_their_own() -> None:
    both = rows() + [row | {"profile": "medevalkit-1"} for row in rows()]
    assert [(found["checkpoint"], found["profile"]) for found in seven_means(both)] == [
        ("rl", "strict-1"),
        ("rl", "medevalkit-1"),
    ]
    assert seven_means([rows()[0] | {"dataset": "starter"}]) == []


def test_names_of_datasets() -> None:
    names = ("mmmu-med", "vqa-rad", "slake", "path-vqa", "pmc-vqa test_clean", "omni-med-vqa", "med-xpert-qa")
    assert tuple(map(benchmark_of, names)) == BENCHMARKS
    assert benchmark_of("medxpertqa-mm") == "MedXpertQA-MM"
    assert benchmark_of("med-qa") is benchmark_of("pubmed-qa") is None


def test_published_means_are_those_of_their_rows() -> None:
    for score in PUBLISHED_SCORES:
        assert sum(score.percent) / 7 == pytest.approx(score.mean, abs=0.06)
