"""All the text that a student meets in these items, for the training of its tokenizer."""

import random
from collections.abc import Sequence

from residency.platform.prompts import render_prompt
from residency.platform.records import Item, PromptMode
from residency.synthesis.annotations_teacher import FRAMES, task_of, write_completion
from residency.synthesis.strategies import phrases


def student_texts(items: Sequence[Item], seed: int) -> list[str]:
    """Prompts and completions in both modes, every fact of the tasks with every value, and every reflective phrase."""
    rng = random.Random(f"texts/{seed}")
    texts = phrases()
    for item in items:
        texts += [render_prompt(item, mode) for mode in PromptMode]
        texts += [write_completion(item, mode, rng) for mode in PromptMode]
    for task in sorted({task_of(item).name: task_of(item) for item in items}.values(), key=lambda task: task.name):
        sayings = [fact.say(value) for fact in task.facts for value in fact.values]
        texts += [frame(sayings, task.conclude("")) for frame in FRAMES]
    return texts
