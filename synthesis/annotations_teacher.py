"""The annotations teacher: rationales out of an item's own facts, so that they are factual by construction."""

import random
from collections.abc import Callable, Sequence

from residency.platform.errors import DataError
from residency.platform.prompts import prompt_hash, render_completion, render_prompt
from residency.platform.records import Example, Item, PromptMode, Target, Trace, short_hash
from residency.synthesis.examples import make_example
from residency.synthesis.facts import TASKS, TaskSpec, check_facts

TEACHER_NAME = "annotations"

# A small student needs variety without vocabulary: the same facts in three frames of one or two more words.
Frame = Callable[[Sequence[str], str], str]


def one_by_one(facts: Sequence[str], conclusion: str) -> str:
    return ". ".join([*facts, conclusion]) + "."


def in_order(facts: Sequence[str], conclusion: str) -> str:
    return one_by_one([f"first, {facts[0]}", *(f"then {fact}" for fact in facts[1:])], conclusion)


def at_a_glance(facts: Sequence[str], conclusion: str) -> str:
    return f"look, {', and '.join(facts)}. {conclusion}."


FRAMES: tuple[Frame, ...] = (one_by_one, in_order, at_a_glance)
FRAME_WORDS = frozenset({"first", "then", "look", "and"})


def task_of(item: Item) -> TaskSpec:
    """The item's task, its facts checked; raises DataError for an item that carries none or impossible ones."""
    task, facts = item.metadata.get("task"), item.metadata.get("facts")
    if not isinstance(task, str) or not isinstance(facts, dict):
        raise DataError(
            f"item {item.id} of {item.source} has no task and facts in its metadata",
            "annotations that the annotations teacher can put into words",
            "import the data with its annotations, or name another teacher in synthesis.teachers",
        )
    check_facts(task, facts)
    return TASKS[task]


def write_rationale(item: Item, rng: random.Random, other_order: bool = False) -> str:
    """What stands inside ``<think>``: the facts and the conclusion, in one of three wordings."""
    task = task_of(item)
    facts = [fact.say(item.metadata["facts"][fact.name]) for fact in task.facts]
    return rng.choice(FRAMES)(facts[::-1] if other_order else facts, task.conclude(item.answer))


def write_completion(item: Item, mode: PromptMode, rng: random.Random) -> str:
    """The whole completion in this mode: tagged rationale and answer for think, the bare answer for direct."""
    return render_completion(item.answer, mode, "" if mode is PromptMode.DIRECT else write_rationale(item, rng))


def write_trace(item: Item, seed: int, sample_index: int = 0, other_order: bool = False) -> Trace:
    """The teacher's rationale as a trace (without token ids: nothing was sampled); deterministic by its arguments."""
    prompt = prompt_hash(render_prompt(item, PromptMode.THINK))
    identity = short_hash(item.id, prompt, TEACHER_NAME, str(other_order), str(seed), str(sample_index))
    reasoning = write_rationale(item, random.Random(identity), other_order)
    return Trace(
        id=identity,
        item_id=item.id,
        role="teacher",
        model=TEACHER_NAME,
        prompt_mode=PromptMode.THINK,
        prompt_hash=prompt,
        seed=seed,
        sample_index=sample_index,
        text=render_completion(item.answer, PromptMode.THINK, reasoning),
        finish_reason="stop",
    )


def rationale_example(item: Item, trace: Trace) -> Example:
    """A CoT example whose completion is the trace's text."""
    return make_example(item, Target.COT, trace.text, from_traces=(trace.id,))


def rationales_of(items: Sequence[Item], traces: Sequence[Trace]) -> list[Example]:
    """One CoT example a trace, of its item."""
    by_id = {item.id: item for item in items}
    return [rationale_example(by_id[trace.item_id], trace) for trace in traces]


def write_rationales(items: Sequence[Item], seed: int) -> list[Example]:
    """One CoT example an item."""
    return [rationale_example(item, write_trace(item, seed)) for item in items]
