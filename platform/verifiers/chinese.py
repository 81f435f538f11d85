"""Chinese answers as characters: frames and particles left out, one name for things with several."""

import re
from functools import lru_cache

from residency.platform.verifiers.chinese_synonyms import CHINESE_GROUPS
from residency.platform.verifiers.normal_form import HAS_CHINESE
from residency.platform.verifiers.synonyms import groups

NAMES = {phrase: first for first, others in groups(CHINESE_GROUPS).items() for phrase in (first, *others)}
NAME = re.compile("|".join(map(re.escape, sorted(NAMES, key=len, reverse=True))))
FRAME = re.compile(
    r"^(?:(?:所以|因此|综上|综上所述|最终|故|应该|可能|很可能|大概率?|考虑|诊断|我认为|我觉得)[,:]?)*"
    r"(?:(?:这个?|该|此|本|图中|图像中?|图片中?|影像中?|片中|这张|这幅|图上|问题的?|正确的?|最终的?)*"
    r"(?:图|图像|图片|影像|片子|检查|扫描|答案|结论|诊断|结果|病变|异常|器官|部位|成像方式|模态|疾病|问题)?(?:的)?"
    r"(?:检查方式|成像方式|模态|位置|部位|平面|扫描平面|器官|答案|诊断)?"
    r"(?:应该是|应为|应是|可能是|是|为|显示的?是?|可见|属于|位于|在|提示|考虑为?|:)+)"
)
HEAD = re.compile(r"^(?:最终|正确|我)?的?(?:答案|回答|结论|结果|诊断)(?:应该)?(?:是|为)?[:,]?")
TAIL = re.compile(r"(?:的?(?:图像|影像|图片|扫描图|扫描|成像|检查|片|图)|[。.!,;吧呢啊的]|中|内)+$")
MARKS = re.compile(r"[\s,.;:!?()\"'、。的]")


def has_chinese(text: str) -> bool:
    return HAS_CHINESE.search(text) is not None


@lru_cache(maxsize=8192)
def chinese_words(text: str) -> tuple[str, ...]:
    """The characters that count, runs of Latin letters and digits whole; ``答案是磁共振`` and ``MRI`` are equal."""
    core = MARKS.sub("", NAME.sub(_name, text.strip()))
    return tuple(re.findall(r"[a-z0-9.%+\-]+|.", core))


def chinese_answers(text: str) -> set[tuple[str, ...]]:
    """The forms that a short answer may be read as: whole, and without the words around the answer."""
    squeezed = re.sub(r"\s+", "", text)
    inner = HEAD.sub("", squeezed)
    framed = FRAME.sub("", squeezed)
    forms = {squeezed, inner, framed, TAIL.sub("", squeezed), TAIL.sub("", inner), TAIL.sub("", framed)}
    return {words for form in forms if form and (words := chinese_words(form))}


def _name(found: re.Match[str]) -> str:
    return NAMES[found[0]]
