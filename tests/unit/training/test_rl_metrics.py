"""A step's metrics against numbers worked by hand, and the idle share against schedules drawn on paper."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.platform.arrow_tables import to_table
from residency.platform.clock import SimulatedClock
from residency.platform.errors import DataError
from residency.platform.records import PolicyVersion, PromptMode, Status, Trace, Verdict
from residency.training.batch_stats import BatchStats, StepStats
from residency.training.idle_meter import IdleMeter
from residency.training.rl_metrics import (
    UNITS,
    GroupSample,
    group_samples,
    learner_metrics,
    sample_metrics,
    slowest,
    speed_metrics,
    staleness_metrics,
    unit_of,
    weights_metrics,
)


def group(item_id: str, scores: tuple[float | None, ...], accuracy: tuple[float, ...]) -> GroupSample:
    return GroupSample(
        item_id=item_id,
        scores=scores,
        accuracy=accuracy,
        format_valid=(1.0,) * len(scores),
        lengths=tuple(range(1, len(scores) + 1)),
        truncated=(False,) * (len(scores) - 1) + (True,),
    )


MIXED = group("mixed", (1.0, 0.1, 0.1, None), (1.0, 0.0, 0.5, 0.0))
EASY = group("easy", (1.0, 1.0), (1.0, 1.0))
HARD = group("hard", (0.1, 0.1), (0.0, 0.0))


def test_passes_and_variance_are_those_of_the_groups() -> None:
    found = sample_metrics([MIXED, EASY, HARD])
    assert found["rollouts"] == 8
    assert found["reward_mean"] == pytest.approx((1.0 + 0.1 + 0.1 + 2.0 + 0.2) / 7), "None is no reward of 0"
    assert found["pass_at_1"] == pytest.approx(3 / 8), "half right is not right"
    assert found["pass_at_g"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(3.5 / 8)
    assert found["zero_variance_fraction"] == pytest.approx(2 / 3)
    assert (found["groups_all_right"], found["groups_all_wrong"]) == (1, 1)
    assert found["response_length_mean"] == pytest.approx((1 + 2 + 3 + 4 + 1 + 2 + 1 + 2) / 8)
    assert found["truncated_fraction"] == pytest.approx(3 / 8)


def test_the_standard_deviation_is_the_populations() -> None:
    assert sample_metrics([group("a", (0.0, 1.0), (0.0, 1.0))])["reward_std"] == pytest.approx(0.5)


def test_a_group_without_any_score_has_no_variance() -> None:
    found = sample_metrics([group("faults", (None, None), (0.0, 0.0))])
    assert found["zero_variance_fraction"] == 1
    assert found["groups_all_wrong"] == 1
    assert found["reward_mean"] == 0


def test_no_group_at_all_gives_zeros() -> None:
    assert set(sample_metrics([]).values()) == {0.0}


def tables() -> tuple[pa.Table, pa.Table]:
    """Two groups of two whose traces alternate; the verdicts come in another order."""
    traces = [
        Trace(
            id=f"t{row}",
            item_id="ab"[row % 2],
            role="policy",
            model="m",
            prompt_mode=PromptMode.THINK,
            prompt_hash="h",
            seed=0,
            sample_index=row // 2,
            token_ids=(5,) * (row + 1),
            logprobs=(-1.0,) * (row + 1),
            text="x",
            finish_reason="length" if row == 3 else "stop",
        )
        for row in range(4)
    ]
    verdicts = [
        Verdict(
            trace_id=f"t{row}",
            status=Status.SCORED,
            score=row / 4,
            parts={"accuracy": float(row == 2), "format": 1.0},
            verifier="v",
            verifier_version="1",
        )
        for row in reversed(range(4))
    ]
    return to_table(traces, Trace), to_table(verdicts, Verdict)


def test_tables_become_groups_in_the_order_of_the_traces() -> None:
    traces, verdicts = tables()
    first, second = group_samples(traces, verdicts)
    assert (first.item_id, first.scores, first.lengths, first.right) == ("a", (0.0, 0.5), (1, 3), (False, True))
    assert (second.item_id, second.lengths, second.truncated) == ("b", (2, 4), (False, True))
    sliced = group_samples(traces.slice(1), verdicts)
    assert [each.lengths for each in sliced] == [(2, 4), (3,)], "a slice's own rows"


def test_a_trace_without_a_verdict_is_an_error() -> None:
    traces, verdicts = tables()
    with pytest.raises(DataError, match="t0 has no verdict"):
        group_samples(traces, verdicts.slice(0, 3))


def sampled_by(*steps_T: list[int], incarnation: int = 0) -> pa.Table:
    """A table of traces whose tokens are of the weights of these steps."""
    packed = [[PolicyVersion(incarnation=incarnation, step=step).packed for step in trace] for trace in steps_T]
    return pa.table({"policy_versions": pa.array(packed, pa.list_(pa.int64()))})


def test_staleness_is_counted_by_token() -> None:
    found = staleness_metrics([sampled_by([5, 5], [5, 4], incarnation=3), sampled_by([], [4])], 5, 2)
    assert found["staleness_mean"] == pytest.approx(2 / 5)
    assert found["staleness_max"] == 1
    assert [found[f"staleness_{lag}"] for lag in range(3)] == [0.6, 0.4, 0]
    assert set(staleness_metrics([], 5, 1).values()) == {0.0}


def test_a_token_beyond_the_bound_shows() -> None:
    found = staleness_metrics([sampled_by([7, 4])], 7, 1)
    assert found["staleness_max"] == 3
    assert found["staleness_0"] + found["staleness_1"] == 0.5


@given(st.lists(st.lists(st.integers(6, 10), min_size=1, max_size=30), min_size=1, max_size=6))
def test_shares_within_the_bound_sum_to_one(steps: list[list[int]]) -> None:
    found = staleness_metrics([sampled_by(*steps).slice(0), sampled_by(*steps).slice(1)], 10, 4)
    assert sum(found[f"staleness_{lag}"] for lag in range(5)) == pytest.approx(1)
    assert found["staleness_mean"] == pytest.approx(sum(lag * found[f"staleness_{lag}"] for lag in range(5)))


def test_the_learners_numbers_keep_every_bit() -> None:
    trained = BatchStats(num_tokens=4, loss=0.1 + 0.2, entropy_sum=2.0, ratio_sum=4.4, clipped_sum=1.0, kl_sum=0.4)
    update = StepStats(step=7, learning_rate=1e-4, gradient_norm=1 / 3, seconds=0.5)
    found = learner_metrics(trained, update)
    assert found["loss"] == 0.1 + 0.2
    assert found["grad_norm"] == 1 / 3
    assert (found["optimizer_step"], found["clip_fraction"]) == (7, 0.25)
    assert (found["ratio_mean"], found["entropy"]) == (1.1, 0.5)
    assert not {"kl", "mismatch_mean", "mismatch_max"} & found.keys(), "nothing of it was measured"
    fresh = BatchStats(
        num_tokens=4, mismatch_sum=2.0, num_fresh_tokens=2, fresh_mismatch_sum=1e-6, fresh_mismatch_max=8e-7
    )
    measured = learner_metrics(fresh, update)
    assert (measured["mismatch_mean"], measured["mismatch_max"], measured["policy_gap_mean"]) == (5e-7, 8e-7, 0.5)
    assert learner_metrics(trained, update, kl=trained.kl)["kl"] == 0.1


def test_rates_and_weight_updates() -> None:
    speed = speed_metrics(400, 2.0, 300, 1.5)
    assert (speed["tokens_per_second_generated"], speed["tokens_per_second_trained"]) == (200, 200)
    assert speed_metrics(0, 0.0, 0, 0.0)["tokens_per_second_generated"] == 0
    phases = slowest([{"pull": 0.1, "load": 0.4}, {"pull": 0.3, "load": 0.2}])
    assert weights_metrics(10, phases, 0.9) == {
        "weights_bytes": 10, "weights_seconds": 0.9, "weights_pull_seconds": 0.3, "weights_load_seconds": 0.4,
    }  # fmt: skip


def test_every_metric_has_its_unit() -> None:
    trained, update = (
        BatchStats(num_fresh_tokens=1),
        StepStats(step=1, learning_rate=1e-4, gradient_norm=0.0, seconds=0.0),
    )
    names = {
        **sample_metrics([MIXED]), **staleness_metrics([], 0, 2), **speed_metrics(1, 1.0, 1, 1.0),
        **learner_metrics(trained, update, kl=0.0), **weights_metrics(1, {"pull": 0.1}, 0.1),
    }  # fmt: skip
    without = {name for name in names if not unit_of(name)}
    assert without == {"loss", "ratio_mean", "grad_norm", "learning_rate"}, "numbers without a dimension"
    assert names.keys() >= UNITS.keys()
    assert unit_of("weights_pull_seconds") == "seconds"
    assert unit_of("staleness_2") == unit_of("idle_fraction_learner") == "fraction"
    assert unit_of("staleness_mean") == "steps"


def test_calls_that_overlap_are_counted_once() -> None:
    clock = SimulatedClock()
    meter = IdleMeter(clock)
    meter.begin("generator", "g0")
    clock.advance(2)
    meter.begin("generator", "g0")
    clock.advance(2)
    meter.end("generator", "g0")
    clock.advance(2)
    meter.end("generator", "g0")
    clock.advance(2)
    assert meter.take() == {"idle_fraction_generator": pytest.approx(0.25)}


def test_workers_side_by_side_count_each() -> None:
    clock = SimulatedClock()
    meter = IdleMeter(clock)
    meter.join("generator", "g0")
    meter.join("generator", "g1")
    with meter.busy("generator", "g0"):
        clock.advance(4)
    assert meter.take() == {"idle_fraction_generator": pytest.approx(0.5)}


def test_a_call_across_two_looks_is_in_both() -> None:
    clock = SimulatedClock()
    meter = IdleMeter(clock)
    clock.advance(1)
    with meter.busy("learner", "ranks"):
        clock.advance(3)
        assert meter.take() == {"idle_fraction_learner": pytest.approx(0.25)}, "there from the window's beginning"
        clock.advance(1)
    clock.advance(3)
    assert meter.take() == {"idle_fraction_learner": pytest.approx(0.75)}
    clock.advance(1)
    assert meter.take() == {"idle_fraction_learner": 1.0}


def test_who_comes_and_goes_is_idle_only_while_it_is_there() -> None:
    clock = SimulatedClock()
    meter = IdleMeter(clock)
    meter.join("generator", "g0")
    clock.advance(6)
    meter.join("generator", "g1")
    meter.begin("generator", "g1")
    clock.advance(2)
    meter.leave("generator", "g1")  # lost in the middle of its call
    clock.advance(2)
    meter.end("generator", "g1")
    assert meter.take() == {"idle_fraction_generator": pytest.approx(1 - 2 / 12)}
    clock.advance(1)
    assert meter.take() == {"idle_fraction_generator": 1.0}


def test_an_end_without_a_begin_is_an_error() -> None:
    with pytest.raises(DataError, match="never began"):
        IdleMeter(SimulatedClock()).end("generator", "g0")


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=12))
def test_any_schedule_gives_the_share_that_was_covered(calls: list[tuple[int, int, int]]) -> None:
    """Against counting the seconds one by one: (worker, start, length) in whole seconds."""
    clock, end = SimulatedClock(), 45
    meter = IdleMeter(clock)
    for worker in range(3):
        meter.join("generator", str(worker))
    covered = {(worker, second) for worker, start, length in calls for second in range(start, start + length)}
    for second in range(end):
        for worker, start, length in calls:
            if start + length == second:
                meter.end("generator", str(worker))
            if start == second:
                meter.begin("generator", str(worker))
        clock.advance(1)
    assert meter.take()["idle_fraction_generator"] == pytest.approx(1 - len(covered) / (3 * end))
