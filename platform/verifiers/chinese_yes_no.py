"""Yes and no in Chinese: the word at the start, or a statement that has the words of the question."""

import re
from functools import lru_cache

from residency.platform.verifiers.normal_form import normal_form

FRAME = re.compile(
    r"^(?:(?:所以|因此|综上|我认为|我觉得|最终|故)[,:]?)*(?:(?:这个|该|本)?(?:问题的?|正确的?)?(?:答案|回答|结论|结果)(?:应该)?[是为]?[:,]?)?"
)
NO_WORD = re.compile(
    r"^(?:不是的?|并不是|并非|没有|并没有|不存在|未见|未发现|没|无(?!法)|不能|不会|不可以|不属于|不对|不正确|不(?=$|[,.;!])"
    r"|错误?(?=$|[,.;!的])|否(?:定的?)?(?=$|[,.;!])|假的?(?=$|[,.;!])|no(?![a-z]))"
)
YES_WORD = re.compile(
    r"^(?:是的|是(?![否不])|有(?![没无])的?|对(?:的)?(?=$|[,.;!])|正确|存在|可见|能(?!否)|会(?!不)|可以(?!排除)|属于|肯定的?(?=$|[,.;!])"
    r"|真的?(?=$|[,.;!])"
    r"|yes(?![a-z]))"
)
DENIAL = re.compile(r"没有|没|无(?!法)|未|不是|并非|不存在|不(?!仅|但|光)|非(?!常)|阴性|排除|否认|缺乏|缺失")
DOUBT = re.compile(r"可能|也许|或许|不排除|不能排除|是否|疑似|如果|待查|不一定")
BOTH = re.compile(
    r"是(?:和|与|或|/|、|,)否|是[,]?(?:也|又)不是|有[,]?(?:也|又|或)没有|yes.{0,4}no|既.{0,6}又|有或无|是也否|有和没有|对和错|是或不是|没有也有|否[,]?(?:也|或)是"
)
NOT_THE_ANSWER = re.compile(r"(?:答案|回答|结论)(?:并)?不(?:是|应|能|会|为)")
FILLER = re.compile(
    r"请问|是不是|有没有|是否|能否|会否|图像?中?|图片中?|影像中?|片子?中?|这张|这幅|这个|这|该|此|本|那|张|幅|里面?|中|上面?|内|存在|出现|看到|可见|显示|发现"
    r"|吗|呢|么|的|是|有|能|会|可以|在|患者|病人|任何|了|一个|一种|属于|为|检查|扫描|被|出|见|及|明显|到|[?？,.。!;:]"
)  # fmt: skip
SIDE = ("左", "右")


@lru_cache(maxsize=8192)
def question_parts(question: str) -> tuple[str, ...]:
    """The runs of characters of the question that say something."""
    normal = normal_form(question).replace(" ", "")
    return tuple(part for part in FILLER.sub("|", normal).split("|") if part)


def said_in_chinese(text: str, question: str) -> tuple[set[str], str]:
    """Which of yes and no the normal form says, and by which rule."""
    squeezed = re.sub(r"[\s\"'()]", "", text)
    if NOT_THE_ANSWER.search(squeezed):
        return set(), "an answer denied"
    squeezed = FRAME.sub("", squeezed).strip(",.;:!?")
    if not squeezed or BOTH.search(squeezed):
        return ({"yes", "no"}, "both in one phrase") if squeezed else (set(), "nothing")
    word = None
    if NO_WORD.match(squeezed):
        word = "no"
    elif YES_WORD.match(squeezed):
        word = "yes"
    clauses = [clause for clause in re.split(r"[,.;!?:]|但是?|然而|因为", squeezed) if clause]
    parts = question_parts(question)
    stated: set[str] = set()
    for i, clause in enumerate(clauses):
        if i == 0 and word is not None and len(clause) <= 3:
            continue
        if i > 0 and (NO_WORD.fullmatch(inner := FRAME.sub("", clause)) or YES_WORD.fullmatch(inner)):
            stated.add("no" if NO_WORD.fullmatch(inner) else "yes")
            continue
        if (says := _clause_says(clause, parts, question)) is not None:
            stated.add(says)
    if word is None:
        return stated, "a statement on the question"
    if stated and stated != {word}:
        return {"yes", "no"}, "a word and a statement against it"
    return {word}, "the word at the start"


def _clause_says(clause: str, parts: tuple[str, ...], question: str) -> str | None:
    if DOUBT.search(clause) or not parts:
        return None
    for side, other in (SIDE, SIDE[::-1]):
        if other in clause and side in question and other not in question and side not in clause:
            return None
    core = FILLER.sub("", clause)
    rest = clause
    for part in parts:  # `肺不张` is no denial
        rest = rest.replace(part, "")
        core = core.replace(part, "|")
    found = [part for part in parts if part in clause]
    if len(DENIAL.findall(rest)) % 2 == 1:
        return "no" if found else None
    if len(found) == len(parts):
        return "yes"
    return "yes" if found and found[-1] == parts[-1] and not core.strip("|") else None
