"""Sessions are split by a stable hash: by share, and for good."""

import pytest

from residency.platform.registry.routing import choose_version

SESSIONS = [f"session-{number}" for number in range(20_000)]


def test_without_a_canary_everything_is_stable() -> None:
    assert {choose_version(key, "v1", None) for key in SESSIONS[:100]} == {"v1"}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_canary_gets_its_share(share: float) -> None:
    canary = sum(choose_version(key, "v1", ("v2", share)) == "v2" for key in SESSIONS) / len(SESSIONS)
    assert abs(canary - share) < 4 * (share * (1 - share) / len(SESSIONS)) ** 0.5


def test_the_ends_of_the_scale() -> None:
    assert {choose_version(key, "v1", ("v2", 0.0)) for key in SESSIONS} == {"v1"}
    assert {choose_version(key, "v1", ("v2", 1.0)) for key in SESSIONS} == {"v2"}


def test_a_session_that_has_met_the_canary_stays_with_it_as_the_share_grows() -> None:
    small = {key for key in SESSIONS if choose_version(key, "v1", ("v2", 0.1)) == "v2"}
    large = {key for key in SESSIONS if choose_version(key, "v1", ("v2", 0.3)) == "v2"}
    assert small < large


def test_the_next_canary_meets_other_sessions() -> None:
    second = {key for key in SESSIONS if choose_version(key, "v1", ("v2", 0.1)) == "v2"}
    third = {key for key in SESSIONS if choose_version(key, "v1", ("v3", 0.1)) == "v3"}
    assert len(second & third) < 0.2 * len(second)


def test_the_place_of_a_session_never_changes() -> None:
    """Known answers: another hash would move sessions at an upgrade."""
    assert [choose_version(key, "a", ("b", 0.5)) for key in ("", "anna", "ben", "key-7")] == ["b", "b", "b", "a"]
