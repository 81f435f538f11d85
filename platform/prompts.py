"""The one place where an item becomes the text of a prompt. Images come before it and are not part of the text."""

from typing import assert_never

from residency.platform.records import AnswerKind, Item, PromptMode, short_hash

THINK_INSTRUCTION = "Think inside <think> </think>, then answer inside <answer> </answer>."
IMAGE_MARKER = "<image>"  # in a prompt: here belongs the next image; without markers all of them come first
DIRECT_INSTRUCTION = "Give only the answer."


def instruction(mode: PromptMode) -> str:
    """The line that says in which form the answer is wanted."""
    match mode:
        case PromptMode.THINK:
            return THINK_INSTRUCTION
        case PromptMode.DIRECT:
            return DIRECT_INSTRUCTION
    assert_never(mode)


def render_prompt(item: Item, mode: PromptMode) -> str:
    """The user's text: question, the options of a choice in their order, and the instruction, one line each."""
    lines = [item.question.strip()]
    if item.answer_kind is AnswerKind.CHOICE:
        lines.append(f"Choose from: {', '.join(item.options)}.")
    lines.append(instruction(mode))
    return "\n".join(lines)


def render_completion(answer: str, mode: PromptMode, reasoning: str = "") -> str:
    """What an assistant answers in this mode: the tagged form for think, the bare answer for direct."""
    if mode is PromptMode.DIRECT:
        return answer
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def prompt_hash(text: str) -> str:
    """Sixteen hex digits that name a rendered prompt in traces."""
    return short_hash(text)
