"""Wrong traces by template, for a recipe that asks for them by name: nobody ever erred so, and the trace says it."""

import random
from collections.abc import Mapping

from residency.platform.prompts import prompt_hash, render_completion, render_prompt
from residency.platform.records import Item, PromptMode, Trace, short_hash
from residency.synthesis.annotations_teacher import FRAMES, task_of

TEMPLATE = "template"  # the model's name in such a trace


def invent_wrong(item: Item, seed: int) -> Trace | None:
    """A rationale of the item with one fact taken for another; None where no fact has another value.

    Only its beginning, up to the wrong fact, is ever taught from (and never learned).
    """
    task, facts = task_of(item), item.metadata["facts"]
    rng = random.Random(f"invented/{seed}/{item.id}")
    fact = rng.choice([fact for fact in task.facts if len(fact.values) > 1] or [None])
    if fact is None:
        return None
    other = rng.choice([value for value in fact.values if value != facts[fact.name]])
    changed: Mapping[str, str] = {**facts, fact.name: other}
    said = [each.say(changed[each.name]) for each in task.facts]
    text = render_completion(item.answer, PromptMode.THINK, rng.choice(FRAMES)(said, task.conclude(item.answer)))
    prompt = prompt_hash(render_prompt(item, PromptMode.THINK))
    return Trace(
        id=short_hash(item.id, prompt, TEMPLATE, str(seed), text),
        item_id=item.id,
        role="teacher",
        model=TEMPLATE,
        prompt_mode=PromptMode.THINK,
        prompt_hash=prompt,
        seed=seed,
        sample_index=0,
        text=text,
        finish_reason="stop",
    )
