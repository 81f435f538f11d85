"""How a completion becomes an SFT example: the item's prompt, its images, and the assistant's text."""

from residency.platform.prompts import render_completion, render_prompt
from residency.platform.records import Example, Item, PromptMode, Target, short_hash


def make_example(
    item: Item,
    target: Target,
    completion: str,
    *,
    from_traces: tuple[str, ...] = (),
    pattern: str | None = None,
    error_kind: str | None = None,
    loss_start: int = 0,
) -> Example:
    """One chat of user and assistant; ``loss_start`` counts characters of ``completion``. Equal text, equal id."""
    mode = PromptMode.DIRECT if target is Target.DIRECT else PromptMode.THINK
    prompt = render_prompt(item, mode)
    return Example(
        id=short_hash(item.id, target.value, prompt, completion, str(loss_start), pattern or ""),
        item_id=item.id,
        messages=({"role": "user", "content": prompt}, {"role": "assistant", "content": completion}),
        media=item.media,
        target=target,
        family=item.family,
        pattern=pattern,
        error_kind=error_kind,
        from_traces=from_traces,
        loss_start=loss_start,
    )


def direct_example(item: Item) -> Example:
    """The bare answer: it keeps the model able to answer without a rationale."""
    return make_example(item, Target.DIRECT, render_completion(item.answer, PromptMode.DIRECT))
