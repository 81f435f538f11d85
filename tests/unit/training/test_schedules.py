import pytest

from residency.training.schedules import learning_rate_factor


def test_warm_up_then_cosine_by_hand() -> None:
    # 10 steps, 2 of warm-up: 1/2, 1, then the cosine over 8 steps, half way at step 6.
    factors = [learning_rate_factor(step, 10, 0.2, "cosine") for step in range(12)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[6] == pytest.approx(0.5)
    assert factors[9] == pytest.approx(0.0380602)
    assert factors[9] == factors[10] == factors[11]
    assert factors[2:10] == sorted(factors[2:10], reverse=True)


def test_constant_without_warm_up() -> None:
    assert [learning_rate_factor(step, 3, 0.0, "constant") for step in range(5)] == [1.0] * 5
