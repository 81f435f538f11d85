"""Facts: closed vocabularies that can be read back, and enough kinds of error for reflection."""

import pytest

from residency.platform.errors import DataError
from residency.synthesis.facts import BLOOD_TASKS, OBJECT_TASKS, STARTER_TASKS, TASKS, check_facts


def test_names_are_unique_and_phrases_hold_their_value() -> None:
    assert len(TASKS) == len(STARTER_TASKS) + len(BLOOD_TASKS) + len(OBJECT_TASKS)
    for task in TASKS.values():
        said = [fact.say(value) for fact in task.facts for value in fact.values]
        assert len(set(said)) == len(said), task.name
        assert all(value in fact.say(value) for fact in task.facts for value in fact.values)
        assert all(text == text.lower() and len(text.split()) <= 7 for text in said)
        assert "yes" in task.conclude("yes")
        assert 2 <= len(task.facts) <= 3


@pytest.mark.parametrize("tasks", [STARTER_TASKS, BLOOD_TASKS])
def test_kinds_of_error_times_four_strategies_are_thirty_or_more(tasks: tuple) -> None:
    assert 4 * sum(len(task.facts) for task in tasks) >= 30


def test_facts_outside_the_vocabulary_are_refused() -> None:
    check_facts("lesion_count", {"left": "1", "right": "2"})
    for task, facts, text in (
        ("lesion_count", {"right": "2", "left": "1"}, "in this order"),
        ("lesion_count", {"left": "1"}, "in this order"),
        ("lesion_count", {"left": "9", "right": "0"}, "'left' is '9'"),
        ("no_task", {}, "unknown task"),
    ):
        with pytest.raises(DataError, match=text):
            check_facts(task, facts)
