"""MedEvalKit's prompts, word for word, since a model's answer depends on them; reasoning asks for one `\\boxed{}`.

Facts from alibaba-damo-academy/MedEvalKit at 9b12e3b (`utils/question_formats.py` and the classes of the sets; MMMU's
form from `utils/MMMU/data_utils.py`). Differences that remain: of an MMMU question with several images the tool shows
the first alone, here all are shown; MedXpertQA's single images carry the prefix `<image_1>: ` there and none here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from residency.platform.records import Item, PromptMode
from residency.training.evaluation.scoring.medevalkit_tasks import (
    Task,
    is_chinese,
    letter_of,
    lettered_options,
    task_of,
)

IMAGE_MARKER = "<image>"  # where an image belongs; only in the prompts of items with several images
MMMU_GAP = "\n\n        "  # the blanks stand in its source's indented string

ENGLISH_DIRECT: Mapping[Task, str] = MappingProxyType(
    {
        Task.CHOICE: "Answer with the option's letter from the given choices directly.",
        Task.JUDGEMENT: "Please output 'yes' or 'no'(no extra output).",
        Task.CLOSED: "Answer the question using a single word or phrase.",
        Task.OPEN: "Please answer the question concisely.",
    }
)
ENGLISH_THINK: Mapping[Task, str] = MappingProxyType(
    {
        Task.CHOICE: 'Answer with the option\'s letter from the given choices and put the letter in one "\\boxed{}".',
        Task.JUDGEMENT: 'Please output "yes" or "no" and put the answer in one "\\boxed{}".',
        Task.CLOSED: 'Answer the question using a single word or phrase and put the answer in one "\\boxed{}".',
        Task.OPEN: 'Please answer the question concisely and put the answer in one "\\boxed{}".',
    }
)
CHINESE_DIRECT: Mapping[Task, str] = MappingProxyType(
    {
        Task.CHOICE: "请直接使用给定选项中的选项字母来回答该问题。",
        Task.JUDGEMENT: "请输出'是'或'否'(不要有任何其它输出)。",
        Task.CLOSED: "请用一个单词或者短语回答该问题。",
        Task.OPEN: "请简要回答该问题。",
    }
)
CHINESE_THINK: Mapping[Task, str] = MappingProxyType(
    {
        Task.CHOICE: '请直接使用给定选项中的选项字母来回答该问题,并将答案包裹在"\\boxed{}"里',
        Task.JUDGEMENT: "请输出'是'或'否'，并将答案放在一个'\\boxed{}'中。",
        Task.CLOSED: "请用一个单词或者短语回答该问题，并将答案放在一个'\\boxed{}'中。",
        Task.OPEN: "请简要回答该问题，并将答案放在一个'\\boxed{}'中。",
    }
)


def instruction(task: Task, chinese: bool, mode: PromptMode) -> str:
    """The line that says in which form the answer is wanted."""
    match mode:
        case PromptMode.DIRECT:
            lines = CHINESE_DIRECT if chinese else ENGLISH_DIRECT
        case PromptMode.THINK:
            lines = CHINESE_THINK if chinese else ENGLISH_THINK
    return lines[task]


def prompt(item: Item, mode: PromptMode) -> str:
    """The user's text. Of several images each is announced by its number: ``<image_1>: `` and the marker."""
    return image_prefix(item) + question_text(item, mode)


def image_prefix(item: Item) -> str:
    if len(item.media) < 2:
        return ""
    return "".join(f"<image_{number}>: {IMAGE_MARKER}" for number in range(1, len(item.media) + 1))


def question_text(item: Item, mode: PromptMode) -> str:
    task, chinese = task_of(item), is_chinese(item)
    match task:
        case Task.MMMU_CHOICE:
            options = "".join(f"({letter_of(i)}) {option}\n" for i, option in enumerate(item.options))
            return f"\n{item.question}\n\n{options}{MMMU_GAP}{instruction(Task.CHOICE, False, mode)}"
        case Task.MMMU_OPEN:
            return f"\n{item.question}{MMMU_GAP}{instruction(Task.CLOSED, False, mode)}"
        case Task.CHOICE:
            question, options = ("问题：", "选项：") if chinese else ("Question:", "Options:")
            lines = [f"\n{question} {item.question}", f"{options} ", *lettered_options(item)]
            return "\n".join([*lines, instruction(task, chinese, mode)])
        case _:
            return f"{item.question}\n{instruction(task, chinese, mode)}"
