"""A completion's text taken apart into what was thought and what was answered."""

import re

THINK = re.compile(r"<think>(.*?)(?:</think>|(?=<answer>)|\Z)", re.DOTALL)
ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
TAGS = re.compile(r"</?(?:think|answer)>")


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a completion, for showing and for counting answers; it does not judge the format.

    ``<think>r</think><answer>a</answer>`` gives ``("r", "a")``; a bare answer ``("", answer)``; a completion that broke
    off while thinking gives no answer. Of several answers the last one counts.
    """
    thought = THINK.search(text)
    reasoning = thought.group(1).strip() if thought else ""
    answers = ANSWER.findall(text)
    if answers:
        return reasoning, TAGS.sub("", answers[-1]).strip()
    rest = text[thought.end() :] if thought else text
    return reasoning, TAGS.sub("", rest).strip()
