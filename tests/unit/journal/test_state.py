"""Keys move in order only; a step trains on judged groups once; a restart puts groups back in their order."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.platform.errors import DataError
from residency.platform.journal.records import (
    Admitted,
    Answered,
    Dropped,
    Failed,
    Judged,
    Record,
    Released,
    Requested,
    Restored,
    TakenUp,
    Trained,
)
from residency.platform.journal.state import JournalState, Stage

STEPS: dict[str, Record] = {
    "requested": Requested("k", "w", 1),
    "released": Released("k", "cause", spent=True),
    "answered": Answered("k", "w"),
    "judged": Judged("k", (1.0,)),
    "dropped": Dropped("k", "stale"),
    "failed": Failed("k", "cause"),
    "taken_up": TakenUp("k"),
    "trained": Trained(("k",), 0, 1),
}
PATHS: dict[Stage, tuple[tuple[str, ...], set[str]]] = {  # how to get there, and what may follow
    Stage.ADMITTED: ((), {"requested", "answered", "dropped", "failed"}),
    Stage.REQUESTED: (("requested",), {"released", "answered", "dropped", "failed"}),
    Stage.ANSWERED: (("requested", "answered"), {"judged", "dropped", "failed"}),
    Stage.JUDGED: (("requested", "answered", "judged"), {"dropped", "failed", "trained"}),
    Stage.TRAINED: (("requested", "answered", "judged", "trained"), set()),
    Stage.DROPPED: (("dropped",), set()),
    Stage.FAILED: (("failed",), {"taken_up"}),
}


def state_of(*records: Record) -> JournalState:
    state = JournalState()
    for record in records:
        state.apply(record)
    return state


def judged(*keys: str) -> list[Record]:
    return [record for key in keys for record in (Admitted(key), Answered(key, "w"), Judged(key, (1.0,)))]


@pytest.mark.parametrize("stage", PATHS)
@pytest.mark.parametrize("step", STEPS)
def test_only_what_makes_sense_follows(stage: Stage, step: str) -> None:
    path, may_follow = PATHS[stage]
    state = state_of(Admitted("k"), *(STEPS[name] for name in path))
    before = state.keys["k"]
    assert before.stage is stage
    if step in may_follow:
        state.apply(STEPS[step])
        assert state.keys["k"] != before
    else:
        with pytest.raises(DataError, match="Wanted: the (order|next step)|Wanted: a judged group"):
            state.apply(STEPS[step])
        assert state.keys["k"] == before
        assert not list(state.learner().steps()) or stage is Stage.TRAINED


@pytest.mark.parametrize("step", STEPS)
def test_unknown_keys_are_refused(step: str) -> None:
    with pytest.raises(DataError, match="k"):
        JournalState().apply(STEPS[step])


def test_a_key_is_admitted_once() -> None:
    with pytest.raises(DataError, match="k is admitted twice"):
        state_of(Admitted("k"), Admitted("k"))


def test_tries_count_only_where_they_were_spent() -> None:
    state = state_of(
        Admitted("k", "ask"),
        Requested("k", "a", 1),
        Released("k", "left", spent=False),
        Requested("k", "b", 2),
        Released("k", "died", spent=True),
        Requested("k", "c", 3),
    )
    now = state.keys["k"]
    assert (now.stage, now.asked, now.tries, now.worker) == (Stage.REQUESTED, 3, 1, "c")
    state.apply(Failed("k", "died again"))
    assert (state.keys["k"].tries, state.keys["k"].cause) == (2, "died again")
    state.apply(TakenUp("k"))
    now = state.keys["k"]
    assert (now.stage, now.asked, now.tries, now.admitted.request) == (Stage.ADMITTED, 3, 0, "ask")


def test_a_step_trains_on_each_group_once() -> None:
    state = state_of(*judged("a", "b"), Admitted("c"))
    for bad in (("a", "a"), ("a", "c"), ("a", "nowhere")):
        with pytest.raises(DataError, match=r"\(0, 1\)"):
            state.apply(Trained(bad, 0, 1))
    assert state.learner().step == 0
    assert state.keys["a"].stage is Stage.JUDGED
    state.apply(Trained(("b", "a"), 0, 1))
    with pytest.raises(DataError, match="which is trained"):
        state.apply(Trained(("a",), 0, 2))
    for incarnation, step in ((0, 1), (0, 0), (1, 2)):
        with pytest.raises(DataError, match="the next step"):
            state.apply(Trained((), incarnation, step))


def test_a_restart_puts_lost_groups_back_in_their_order() -> None:
    state = state_of(
        *judged("a", "b", "c", "d", "e"),
        Trained(("b",), 0, 1),
        Trained(("d", "a"), 0, 2),
        Trained(("c",), 0, 3),
        Restored(1, 0, 1),
    )
    learner = state.learner()
    assert (learner.incarnation, learner.step) == (1, 1)
    assert list(learner.steps()) == [((0, 1), ("b",))]
    assert learner.replay == {"d": (0, 2), "a": (0, 2), "c": (0, 3)}
    assert list(learner.replay) == ["d", "a", "c"]
    assert [state.keys[key].stage.name for key in "abcd"] == ["JUDGED", "TRAINED", "JUDGED", "JUDGED"]
    assert state.keys["a"].verdict == Judged("a", (1.0,))
    state.apply(Trained(("d", "a"), 1, 2))
    assert learner.replay == {"c": (0, 3)}
    state.apply(Dropped("c", "too stale"))
    assert not learner.replay


def test_a_second_restart_keeps_the_order_of_what_was_not_replayed_yet() -> None:
    state = state_of(
        *judged("a", "b", "c", "d"),
        Trained(("a",), 0, 1),
        Trained(("b",), 0, 2),
        Trained(("c",), 0, 3),
        Restored(1, 0, 1),
        Trained(("b",), 1, 2),
        Restored(2, 0, 1),
    )
    assert list(state.learner().replay) == ["b", "c"]
    state = state_of(
        *judged("a", "b", "c"),
        Trained(("a",), 0, 1),
        Trained(("b",), 0, 2),
        Trained(("c",), 0, 3),
        Restored(1, 0, 1),
        Trained(("b",), 1, 2),
        Restored(2, 1, 2),  # from a checkpoint of the incarnation that was itself restored
    )
    assert list(state.learner().replay) == ["c"]
    assert list(state.learner().steps()) == [((0, 1), ("a",)), ((1, 2), ("b",))]


def test_going_back_to_an_abandoned_branch_takes_its_groups_as_trained() -> None:
    state = state_of(
        *judged("a", "b", "c"),
        Trained(("a",), 0, 1),
        Trained(("b",), 0, 2),
        Restored(1, 0, 1),
        Dropped("b", "too stale"),
        Trained(("c",), 1, 2),
        Restored(2, 0, 2),
    )
    assert list(state.learner().steps()) == [((0, 1), ("a",)), ((0, 2), ("b",))]
    assert (state.keys["b"].stage, state.keys["b"].trained) == (Stage.TRAINED, (0, 2))
    assert list(state.learner().replay) == ["c"]


@pytest.mark.parametrize("record", [Restored(1, 0, 3), Restored(1, 1, 0), Restored(0, 0, 1), Restored(1, 0, -1)])
def test_a_checkpoint_that_the_journal_does_not_know_is_refused(record: Restored) -> None:
    state = state_of(*judged("a", "b"), Trained(("a",), 0, 1), Trained(("b",), 0, 2))
    with pytest.raises(DataError, match="checkpoint"):
        state.apply(record)
    assert (state.learner().incarnation, state.learner().step) == (0, 2)
    assert state.keys["b"].stage is Stage.TRAINED


def test_learners_have_ancestries_of_their_own() -> None:
    state = state_of(
        *judged("rl-1/a", "rl_permuted-1/a"),
        Trained(("rl-1/a",), 0, 1),
        Trained(("rl_permuted-1/a",), 0, 1, "rl_permuted"),
        Restored(1, 0, 0, "rl_permuted"),
    )
    assert list(state.learner().steps()) == [((0, 1), ("rl-1/a",))]
    assert list(state.learner("rl_permuted").replay) == ["rl_permuted-1/a"]
    assert state.keys["rl-1/a"].stage is Stage.TRAINED


def test_a_step_keeps_no_second_copy_of_its_keys() -> None:
    """They stay in memory as long as the run goes on."""
    key = "rl-1/" + "a" * 64
    state = state_of(*judged(key), Trained(("".join(list(key)),), 0, 1))
    ((_, (kept,)),) = state.learner().steps()
    assert kept is state.keys[key].admitted.key


@given(st.lists(st.integers(0, 5), max_size=25))
def test_each_group_is_in_one_step_of_the_ancestry_and_none_is_lost(moves: list[int]) -> None:
    """0–3: train on that many of the next due groups; 4, 5: restart from the newest checkpoint, or the one before."""
    state = state_of(*judged(*(f"{number:03}" for number in range(100))))
    learner = state.learner()
    checkpoints = [(0, 0)]
    for move in moves:
        if move <= 3:
            waiting = [
                key for key, now in state.keys.items() if now.stage is Stage.JUDGED and key not in learner.replay
            ]
            due = [*learner.replay, *waiting][:move]
            state.apply(Trained(tuple(due), learner.incarnation, learner.step + 1))
            learner = state.learner()
            checkpoints.append((learner.incarnation, learner.step))
        else:
            del checkpoints[max(1, len(checkpoints) - (move - 4)) :]
            state.apply(Restored(learner.incarnation + 1, *checkpoints[-1]))
            learner = state.learner()
        trained = [key for _, keys in learner.steps() for key in keys]
        assert len(trained) == len(set(trained))
        assert set(trained) == {key for key, now in state.keys.items() if now.stage is Stage.TRAINED}
        assert not set(learner.replay) & set(trained)
        assert trained + list(learner.replay) == sorted(state.keys)[: len(trained) + len(learner.replay)]
        assert all(older < newer for (older, _), (newer, _) in pairwise(learner.steps()))
