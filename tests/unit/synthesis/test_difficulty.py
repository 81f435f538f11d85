"""Pass counts and the prompts that RL draws by them."""

from collections import Counter

import pytest

from residency.platform.errors import DataError
from residency.platform.records import PromptMode, Status, Trace, Verdict
from residency.synthesis.difficulty import PassCount, choose_prompts, count_passes


def counts(right: int, number: int, samples: int = 8) -> list[PassCount]:
    return [PassCount(item_id=f"{right}/{index}", right=right, samples=samples) for index in range(number)]


def rate_of(item_id: str) -> int:
    return int(item_id.split("/")[0])


def test_never_right_is_left_out_and_easy_is_bounded() -> None:
    chosen = choose_prompts(counts(0, 50) + counts(8, 50) + counts(4, 50), 40, keep_easy=0.1, seed=0)
    assert Counter(map(rate_of, chosen)) == {8: 4, 4: 36}
    assert len(set(chosen)) == 40


def test_the_middle_is_favoured() -> None:
    chosen = choose_prompts(counts(4, 400) + counts(1, 400), 200, keep_easy=0.0, seed=0)
    drawn = Counter(map(rate_of, chosen))
    # p(1 - p) is 0.25 against 0.109: 2.3 to 1 in the first draws, less as the middle runs out
    assert 1.6 < drawn[4] / drawn[1] < 3.0


def test_none_comes_again_before_all_were_used() -> None:
    chosen = choose_prompts(counts(4, 10) + counts(1, 10), 50, keep_easy=0.0, seed=3)
    assert sorted(Counter(chosen).values()) == [2] * 10 + [3] * 10
    assert len(set(chosen[:20])) == len(set(chosen[20:40])) == 20


def test_deterministic_by_seed_in_any_order() -> None:
    pool = counts(4, 30) + counts(8, 10)
    assert choose_prompts(pool, 20, 0.2, seed=5) == choose_prompts(pool[::-1], 20, 0.2, seed=5)
    assert choose_prompts(pool, 20, 0.2, seed=5) != choose_prompts(pool, 20, 0.2, seed=6)


def test_without_a_middle_it_says_what_to_do() -> None:
    with pytest.raises(DataError, match="of 7 items 4 were never right, 3 always, none sometimes"):
        choose_prompts(counts(0, 4) + counts(8, 3), 10, 0.1, seed=0)


def test_counting_passes() -> None:
    traces = [
        Trace(
            id=f"t{index}",
            item_id="a" if index < 4 else "b",
            role="policy",
            model="sft",
            prompt_mode=PromptMode.THINK,
            prompt_hash="h",
            seed=0,
            sample_index=index,
            text="",
            finish_reason="stop",
        )
        for index in range(5)
    ]

    def verdict(trace_id: str, status: Status, accuracy: float) -> Verdict:
        score = None if status in (Status.ERROR, Status.TIMEOUT) else accuracy
        return Verdict(
            trace_id=trace_id,
            status=status,
            score=score,
            parts={} if score is None else {"accuracy": accuracy},
            verifier="rules",
            verifier_version="1",
        )

    verdicts = [
        verdict("t0", Status.SCORED, 1.0),
        verdict("t1", Status.SCORED, 0.0),
        verdict("t2", Status.ABSTAINED, 0.0),  # the policy's failure: a wrong sample
        verdict("t3", Status.TIMEOUT, 0.0),  # our own: not counted
    ]
    assert count_passes(traces, verdicts) == [
        PassCount(item_id="a", right=1, samples=3),
        PassCount(item_id="b", right=0, samples=0),
    ]


def test_the_rl_set_is_bounded_and_drawn_again_in_laps() -> None:
    counts = [PassCount(item_id=f"i{number:03d}", right=1 + number % 6, samples=8) for number in range(200)]
    drawn = choose_prompts(counts, 60, 0.1, 0, distinct=20)
    assert len(drawn) == 60
    assert len(set(drawn)) == 20
    assert set(Counter(drawn).values()) == {3}
    assert drawn == choose_prompts(counts[::-1], 60, 0.1, 0, distinct=20)


def test_text_and_image_have_their_shares_of_the_rl_set_as_far_as_they_reach() -> None:
    counts = [PassCount(item_id=f"i{number:03d}", right=4, samples=8) for number in range(200)]
    texts = {f"i{number:03d}" for number in range(100)}
    drawn = choose_prompts(counts, 40, 0.0, 0, distinct=40, text_share=0.25, text_ids=texts)
    assert (len(set(drawn)), len(set(drawn) & texts)) == (40, 10)
    few = {f"i{number:03d}" for number in range(4)}
    drawn = choose_prompts(counts, 40, 0.0, 0, distinct=40, text_share=0.5, text_ids=few)
    assert (len(set(drawn)), len(set(drawn) & few)) == (40, 4)
