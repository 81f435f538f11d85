"""The mixture's quotas, worked by hand."""

import tracemalloc
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.platform.arrow_tables import from_table, to_table
from residency.platform.records import Example, Family, Target
from residency.platform.synthesis_config import MixtureConfig
from residency.synthesis.mixture import MixtureReport, apportion, fill
from residency.synthesis.mixture import mix as mix_tables

MEDICAL, GENERAL, TEXT = Family.MEDICAL_MULTIMODAL, Family.GENERAL_MULTIMODAL, Family.TEXTUAL_REASONING


def make_examples(target: Target, family: Family, number: int, items: int | None = None) -> list[Example]:
    return [
        Example(
            id=f"{target}/{family}/{index}",
            item_id=f"{family}/{index % (items or number)}",
            messages=({"role": "user", "content": "q"}, {"role": "assistant", "content": str(index)}),
            target=target,
            family=family,
        )
        for index in range(number)
    ]


def mix(pool: list[Example], config: MixtureConfig, seed: int) -> tuple[list[Example], MixtureReport]:
    chosen, report = mix_tables(to_table(pool, Example), config, seed)
    return from_table(chosen, Example), report


def by_target(examples: list[Example]) -> Counter[str]:
    return Counter(example.target.value for example in examples)


def test_apportion_by_largest_remainder() -> None:
    assert apportion(10, {"a": 0.25, "b": 0.55, "c": 0.2}) == {"a": 3, "b": 5, "c": 2}  # 2.5, 5.5, 2: the first gets it
    assert apportion(7, {"a": 1.0, "b": 1.0, "c": 1.0}) == {"a": 3, "b": 2, "c": 2}


def test_what_one_lacks_the_others_give_by_their_shares() -> None:
    got = fill(100, {"a": 0.25, "b": 0.55, "c": 0.2}, {"a": 1000, "b": 1000, "c": 4})
    assert got == {"a": 30, "b": 66, "c": 4}  # 96 for a and b at 25 : 55


@given(st.integers(0, 300), st.lists(st.tuples(st.floats(0.01, 1), st.integers(0, 100)), min_size=1, max_size=5))
def test_fill_takes_all_it_can_and_no_more(total: int, cells: list[tuple[float, int]]) -> None:
    shares = {str(index): share for index, (share, _) in enumerate(cells)}
    available = {str(index): number for index, (_, number) in enumerate(cells)}
    got = fill(total, shares, available)
    assert sum(got.values()) == min(total, sum(available.values()))
    assert all(got[key] <= available[key] for key in got)


def test_target_quotas_hold_where_there_is_enough() -> None:
    pool = [example for target in Target for example in make_examples(target, MEDICAL, 100)]
    chosen, report = mix(pool, MixtureConfig(examples=100), seed=0)
    assert by_target(chosen) == {"direct": 25, "cot": 55, "reflective": 20}
    assert report.wanted_targets == report.got_targets == {"direct": 25, "cot": 55, "reflective": 20}
    assert report.notes == ()


def test_a_short_target_is_filled_and_said() -> None:
    pool = [
        *make_examples(Target.DIRECT, MEDICAL, 100),
        *make_examples(Target.COT, MEDICAL, 100),
        *make_examples(Target.REFLECTIVE, MEDICAL, 4),
    ]
    chosen, report = mix(pool, MixtureConfig(examples=100), seed=0)
    assert by_target(chosen) == {"direct": 30, "cot": 66, "reflective": 4}
    assert report.notes == ("target reflective: wanted 20, there were 4; the others filled the place",)


def test_family_quotas_and_a_family_left_out() -> None:
    pool = [example for family in Family for example in make_examples(Target.COT, family, 50)]
    config = MixtureConfig(
        examples=40, targets={"cot": 1.0}, families={"medical_multimodal": 0.75, "general_multimodal": 0.25}
    )
    chosen, report = mix(pool, config, seed=0)
    assert Counter(example.family for example in chosen) == {MEDICAL: 30, GENERAL: 10}
    assert report.wanted_families == report.got_families == {"medical_multimodal": 30, "general_multimodal": 10}
    assert report.available == 100


def test_a_target_left_out_fills_nothing() -> None:
    pool = [*make_examples(Target.DIRECT, MEDICAL, 50), *make_examples(Target.COT, MEDICAL, 5)]
    chosen, report = mix(pool, MixtureConfig(examples=20, targets={"cot": 1.0}), seed=0)
    assert by_target(chosen) == {"cot": 5}
    assert report.notes[-1] == "wanted 20 examples, there were 5"


def test_all_is_taken_where_no_number_is_given() -> None:
    pool = [example for family in Family for example in make_examples(Target.COT, family, 7)]
    chosen, report = mix(pool + pool, MixtureConfig(), seed=0)
    assert len(chosen) == report.total == 21


def test_every_item_comes_before_any_comes_twice() -> None:
    pool = make_examples(Target.COT, TEXT, 60, items=20)
    chosen, _ = mix(pool, MixtureConfig(examples=30, targets={"cot": 1.0}), seed=0)
    counts = Counter(example.item_id for example in chosen)
    assert sorted(counts.values()) == [1] * 10 + [2] * 10


def test_same_seed_same_mixture_in_any_order_of_input() -> None:
    pool = [example for target in Target for example in make_examples(target, MEDICAL, 30)]
    first, _ = mix(pool, MixtureConfig(examples=40), seed=1)
    again, _ = mix(pool[::-1], MixtureConfig(examples=40), seed=1)
    other, _ = mix(pool, MixtureConfig(examples=40), seed=2)
    assert first == again
    assert first != other


def test_the_scale_is_the_papers_shape() -> None:
    whole = MixtureConfig(scale=1.0)
    assert (whole.num_examples, whole.num_rl_prompts) == (188_000, 36_000)
    small = MixtureConfig(scale=0.01)
    assert (small.num_examples, small.num_rl_prompts) == (1880, 360)
    with pytest.raises(ValueError, match="scale 0.5 beside examples 10"):
        MixtureConfig(scale=0.5, examples=10)


def test_modalities_are_taken_equally_often_as_far_as_they_reach() -> None:
    pool = make_examples(Target.COT, MEDICAL, 100)
    named = {f"{MEDICAL}/{number}": "CT" if number < 80 else "X-ray" if number < 95 else "MRI" for number in range(100)}
    modalities = pa.table({"item_id": list(named), "modality": list(named.values())})
    config = MixtureConfig(examples=40, targets={"cot": 1.0}, balance_modalities=True)
    _, report = mix_tables(to_table(pool, Example), config, 0, modalities)
    assert report.got_modalities == {"CT": 20, "MRI": 5, "X-ray": 15}
    _, plain = mix_tables(
        to_table(pool, Example), config.model_copy(update={"balance_modalities": False}), 0, modalities
    )
    assert plain.got_modalities["CT"] > 25


def test_records_and_tables_give_the_same_mixture() -> None:
    pool = [example for target in Target for example in make_examples(target, MEDICAL, 30)]
    config = MixtureConfig(examples=40)
    first, _ = mix_tables(iter(pool), config, 3)
    second, _ = mix_tables(to_table(pool[::-1], Example), config, 3)
    assert first.equals(second)


@pytest.mark.timeout(120)
def test_a_hundred_thousand_rows_stay_in_arrow() -> None:
    """Memory beside the table itself: keys only, no Python object a row."""
    number = 100_000
    table = pa.table(
        {
            "id": [f"{row:016x}" for row in range(number)],
            "item_id": [f"{row // 2:016x}" for row in range(number)],
            "messages": ["[]"] * number,
            "media": pa.array([[]] * number, pa.list_(pa.string())),
            "target": ["cot" if row % 3 else "direct" for row in range(number)],
            "family": [MEDICAL.value] * number,
            "pattern": pa.array([None] * number, pa.string()),
            "error_kind": pa.array([None] * number, pa.string()),
            "from_traces": pa.array([[]] * number, pa.list_(pa.string())),
            "loss_start": pa.array([0] * number, pa.int32()),
        }
    )
    tracemalloc.start()
    chosen, report = mix_tables(table, MixtureConfig(examples=10_000, targets={"direct": 0.5, "cot": 0.5}), 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert chosen.num_rows == report.total == 10_000
    assert len(set(chosen.column("item_id").to_pylist())) > 9_000
    assert peak < 20e6
