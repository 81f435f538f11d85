import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family, Item, Split
from residency.platform.report.boards import (
    image_settings,
    image_words,
    profile_rows,
    settings,
    seven_mean_table,
    slice_panels,
    split_comparisons,
    worth_table,
)
from residency.platform.report.figures import Line, line_chart, nice_ticks, short_number
from residency.platform.report.gallery import choose_cards
from residency.platform.report.report import write_report
from residency.platform.report.run_files import open_run, read_lines
from residency.platform.report.tables import comparison_rows, count_tables, in_words, reflection_table, stage_bars


def comparison(low: float, high: float, **more: Any) -> dict[str, Any]:
    row = {
        "a": "rl",
        "b": "sft",
        "dataset": "d",
        "seed": 0,
        "prompt_mode": "think",
        "decoding": "sampled",
        "image": "true",
        "n": 10,
        "questions": 10,
        "clusters": 5,
        "difference": (low + high) / 2,
        "ci95": [low, high],
        "method": "m",
    }
    return row | more


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.01, 0.2, "RL is above SFT"),
        (-0.2, -0.01, "RL is below SFT"),
        (-0.02, 0.2, "a loss of 3 points or more is ruled out"),
        (-0.2, 0.2, "the interval holds 0"),
        (0.0, 0.2, "a loss of 3 points or more is ruled out"),
    ],
)
def test_words_say_no_more_than_the_interval(low: float, high: float, wanted: str) -> None:
    assert wanted in in_words(comparison(low, high))


def test_pooled_rows_stand_for_the_seeds() -> None:
    rows = comparison_rows([comparison(0.0, 0.1, seed=None), comparison(0.3, 0.4), comparison(0.3, 0.4, seed=1)])
    assert [row["seed"] for row in rows] == [None]


def test_intervals_are_placed_around_zero() -> None:
    (row,) = comparison_rows([comparison(-0.1, 0.3, b="sft@blank")])
    assert row["b_name"] == "SFT on blank images"
    assert (row["low"] + 100 * 0.1 / (0.3 * 1.05) / 2) == pytest.approx(50, abs=0.01)
    assert row["low"] < 50 < row["at"] < row["high"] <= 100


def evaluated(checkpoint: str = "sft", **more: Any) -> dict[str, Any]:
    row = {
        "checkpoint": checkpoint,
        "dataset": "d",
        "seed": 0,
        "prompt_mode": "think",
        "decoding": "greedy",
        "image": "true",
        "profile": "strict-1",
        "n": 100,
        "correct": 60,
        "accuracy": 0.6,
        "ci95": [0.5, 0.69],
        "chance": 0.25,
        "majority": 0.3,
        "abstained": 2,
        "errors": 0,
    }
    return row | more


def test_settings_hold_true_images_under_the_leading_profile() -> None:
    rows = [
        evaluated(decoding="sampled"),
        evaluated(),
        evaluated(dataset="e"),
        evaluated(image="blank"),
        evaluated(profile="medevalkit-1", accuracy=0.9),
        evaluated(prompt_mode="direct"),
    ]
    found = settings(rows)
    assert [setting.title for setting in found] == [
        "reasoned answers, greedy",
        "reasoned answers, sampled",
        "direct answers, greedy",
    ]
    assert [(board.dataset, [row["accuracy"] for row in board.rows]) for board in found[0].boards] == [
        ("d", [0.6]),
        ("e", [0.6]),
    ]


def test_image_conditions_stand_under_the_true_image() -> None:
    rows = [
        evaluated(),
        evaluated("rl"),
        evaluated(image="none"),
        evaluated(image="blank"),
        evaluated(dataset="text only"),
        evaluated(image="shuffled"),
    ]
    (setting,) = image_settings(rows)
    (board,) = setting.boards
    assert [row["name"] for row in board.rows] == [
        "SFT, true image",
        "SFT, blank image",
        "SFT, another question's image",
        "SFT, no image",
    ]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0.1, 0.2, "The true image helps"), (-0.2, 0.1, "It is not shown"), (-0.2, -0.1, "more answers are right than")],
)
def test_the_images_worth_in_words(low: float, high: float, wanted: str) -> None:
    between, worth = split_comparisons([comparison(low, high, b="rl@blank"), comparison(low, high)])
    assert [row["b"] for row in between] == ["sft"]
    assert wanted in worth[0]["words"] == image_words(worth[0])
    assert "a blank image" in worth[0]["words"]


def test_the_images_worth_is_a_line_for_each_checkpoint() -> None:
    rows = [
        comparison(0.1, 0.2, b="rl@none"),
        comparison(-0.1, 0.2, b="rl@blank", questions=8),
        comparison(0, 1, a="sft", b="sft@blank"),
    ]
    found = worth_table(split_comparisons(rows)[1])
    assert found["conditions"] == [("blank", "a blank image"), ("none", "no image")]
    assert [(row["name"], row["questions"], sorted(row["cells"])) for row in found["rows"]] == [
        ("RL", 10, ["blank", "none"]),
        ("SFT", 10, ["blank"]),
    ]
    assert found["rows"][0]["cells"]["none"]["tone"] == "up"


def test_slices_have_a_lane_for_each_checkpoint() -> None:
    rows = [
        evaluated(
            name, **about, slice="organ", value=value, questions=50, pooled=["eye", "ear"] if "<" in value else []
        )
        for name in ("sft", "rl")
        for about in ({"decoding": "sampled"}, {})
        for value in ("lung", "other (<10)")
    ]
    (panel,) = slice_panels(rows)
    assert (panel.title, panel.note) == ("by organ", "reasoned answers, greedy")
    assert [(value["value"], value["pooled"], len(value["lanes"])) for value in panel.values] == [
        ("lung", [], 2),
        ("other (<10)", ["eye", "ear"], 2),
    ]
    assert panel.legend == (("c-sft", "SFT"), ("c-rl", "RL"))


def test_other_profiles_are_set_against_the_leading_one() -> None:
    rows = [evaluated(), evaluated("rl"), evaluated(profile="medevalkit-1", accuracy=0.65)]
    (row,) = profile_rows(rows)
    assert (row["name"], row["profile"], row["lead"]) == ("SFT", "medevalkit-1", "strict-1")
    assert row["change"] == pytest.approx(0.05)


def test_summaries_from_before_keep_their_report(tmp_path: Path) -> None:
    old = [{key: value for key, value in evaluated(name).items() if key != "profile"} for name in ("sft", "rl")]
    (tmp_path / "summary.json").write_text(json.dumps({"evaluation": old, "comparisons": [comparison(0.0, 0.1)]}))
    page = write_report(tmp_path).read_text()
    assert page.count('<div class="bar">') == 2
    assert 'id="images"' not in page
    assert 'id="slices"' not in page
    assert seven_mean_table([]) == {}


def test_a_mean_of_seven_says_what_is_missing(tmp_path: Path) -> None:
    published = [{"model": "Other-7B", "percent": {"A": 40.0, "B": 60.0}, "mean": 50.0}]
    about = {"checkpoint": "rl", "seed": 0, "prompt_mode": "think", "decoding": "greedy", "profile": "strict-1"}
    mean = about | {"mean": None, "ci95": None, "accuracies": {"A": 0.44}, "missing": ["B: not evaluated"]}
    summary = {"evaluation": [evaluated()], "seven_means": [mean | {"published": published, "source": "somewhere"}]}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = write_report(tmp_path).read_text()
    assert "No mean for RL (think, greedy, strict-1): B: not evaluated." in page
    assert "Other-7B" in page


def test_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0, 1) == [0, 0.5, 1.0]
    assert nice_ticks(0.61, 0.83) == [0.7, 0.8]
    assert nice_ticks(0, 29) == [0, 10, 20]
    assert nice_ticks(3, 3) == [3]
    assert (short_number(3e-7), short_number(0), short_number(12000), short_number(0.25)) == (
        "3e-7",
        "0",
        "12k",
        "0.25",
    )


def test_a_line_goes_up_when_values_do() -> None:
    svg = line_chart([Line(name="a", style="c-rl", points=((0, 1.0), (1, 2.0), (2, float("nan"))))], title='a "title"')
    first, last = svg.split('points="')[1].split('"')[0].split()
    assert float(first.split(",")[0]) < float(last.split(",")[0])
    assert float(first.split(",")[1]) > float(last.split(",")[1])
    assert "&quot;title&quot;" in svg
    assert line_chart([Line(name="a", style="c-rl", points=((0, float("nan")),))], title="t") == ""


def test_stage_bars_leave_out_the_whole_command() -> None:
    bars = stage_bars({"sft": 30.0, "rl": 60.0, "demo": 300.0})
    assert [(bar["name"], bar["width"]) for bar in bars] == [("sft", 50.0), ("rl", 100.0)]


def test_counts_of_every_depth_are_shown() -> None:
    tables = dict(count_tables({"samples": 4, "outcomes": {"right": 3}, "mixture": {"total": 2, "got": {"cot": 1}}}))
    assert tables == {
        "totals": [("samples", 4)],
        "outcomes": [("right", 3)],
        "mixture": [("total", 2)],
        "mixture: got": [("cot", 1)],
    }


def test_the_yield_of_reflection_is_one_table(tmp_path: Path) -> None:
    found = {
        "before a strategy": {"candidates": 4, "kept": 0, "refused: too many": 4},
        "new_path": {"candidates": 3, "kept": 2, "refused: too long": 1},
    }
    table = reflection_table({"reflection": found})
    assert table["columns"] == ["candidates", "kept", "too long", "too many"]
    assert table["rows"] == [("before a strategy", [4, 0, 0, 4]), ("new path", [3, 2, 1, 0])]
    assert reflection_table({}) == {}
    (tmp_path / "summary.json").write_text(json.dumps({"synthesis": {"samples": 7, "reflection": found}}))
    page = write_report(tmp_path).read_text()
    assert "Reflective examples by strategy" in page
    assert "reflection: new path" not in page


def test_cards_take_tasks_and_outcomes_in_turn() -> None:
    items, rows = {}, []
    for number in range(12):
        task = "side" if number % 2 else "count"
        items[f"i{number:02d}"] = Item(
            id=f"i{number:02d}",
            content_key="k",
            source="s",
            split=Split.HELD_OUT,
            licence="CC0",
            cluster="c",
            question="q",
            answer="1",
            answer_kind=AnswerKind.NUMBER,
            family=Family.MEDICAL_MULTIMODAL,
            metadata={"task": task},
        )
        status = "abstained" if number >= 10 else "scored"
        right = float(number < 6)
        for checkpoint in ("base", "rl"):
            rows.append(
                {
                    "item_id": f"i{number:02d}",
                    "checkpoint": checkpoint,
                    "sample_index": 0,
                    "status": status,
                    "accuracy": right if checkpoint == "rl" else 0.0,
                    "format": 1.0,
                    "text": "1",
                    "evidence": "",
                    "finish_reason": "stop",
                }
            )
    chosen = choose_cards(pl.DataFrame(rows), items, 6)
    assert chosen == ["i00", "i01", "i10", "i11", "i06", "i07"]  # right, abstained, wrong, of both tasks


def test_a_run_that_just_began_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    page = write_report(tmp_path).read_text()
    assert "<h1>" in page
    assert 'id="accuracy"' not in page


def test_several_seeds_show_the_first_ones_pictures(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir()
        lines = [{"t": 0, "step": step, "role": "rl", "name": "reward_mean", "value": 0.5 + seed} for step in (0, 1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "summary.json").write_text("{}")
    assert open_run(tmp_path).first == tmp_path / "seed-0"
    assert write_report(tmp_path).read_text().count('<polyline class="line c-rl"') == 2


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither summary\.json nor recipe\.yaml"):
        write_report(tmp_path)


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"kind": "a"}\n{"kind": "b')
    assert list(read_lines(tmp_path / "events.jsonl")) == [{"kind": "a"}]
