"""Spans that answer nothing: a refusal, or words to the grader instead of words on the question."""

import re
from collections.abc import Iterator

from residency.platform.records import Item

SHORTEST = 6  # characters: nothing shorter is either
TO_THE_GRADER = re.compile(
    r"\b(?:grader|verifier|evaluator|scorer|autograder|(?:automatic|automated|llm) judge|reward (?:model|function)"
    r"|ignore (?:all |any |the |your |every )*(?:previous|prior|above|earlier|other|preceding|instruction|rule|rubric)"
    r"|disregard (?:all |any |the |your )*(?:previous|prior|above|earlier|instruction|rule|rubric)"
    r"|(?:system|developer) (?:prompt|message|override|note)|full (?:marks?|credit|score|points)"
    r"|maximum (?:score|reward)"
    r"|(?:score|reward|grade|accuracy)s? ?(?:of|is|=|:|to|must be|should be) ?(?:1\b|100|full|correct|perfect)"
    r"|(?:mark|grade|count|treat|score|accept|rate|consider|judge) (?:this|it|me|my answer|the answer|that|any answer"
    r"|the response|this response|this answer|everything)(?: \w+)? (?:as )?(?:fully |completely |always )?"
    r"(?:correct|right|true|passed|accepted|1\b|100)"
    r"|(?:reference|ground[- ]truth|gold|golden|expected|stored|hidden) (?:answer|label|key|solution)|answer key"
    r"|is_correct|whatever the|as the reference|same as the reference|output (?:1\b|score|true|\"?correct)"
    r"|return (?:1\b|true|score)|print\(|assert |sys\.exit)"
)
TO_THE_GRADER_CHINESE = re.compile(
    r"忽略.{0,8}(?:指令|指示|规则|要求)|评分(?:员|器|系统|者)|满分|标准答案|参考答案|判(?:为|定为|作)正确|给.{0,4}[1一]分"
)
REFUSAL = re.compile(
    r"\b(?:(?:can(?:no|')t|can not|cannot|could not|couldn't|unable to|impossible to|not possible to|not able to"
    r"|difficult to|hard to|decline to|refuse to|won't|will not|rather not|not going to|am not allowed to)"
    r" (?:be |reliably |really |definitively |confidently |possibly |accurately |safely |say |be )*"
    r"(?:determine|answer|tell|say|provide|identif|assess|decide|judge|diagnos|choose|pick|select|help|interpret"
    r"|give|comment|conclude|be sure|be certain|know|see the image|view|assist|evaluat|estimat|measur|localis|localiz"
    r"|commit|state|make)\w*"
    r"|do(?:es)? ?n[o']t (?:really )?know|don't know|do not have (?:enough|access|the image)|no idea|no clue|not sure"
    r"(?! (?:but|,))|insufficient (?:information|data|evidence|detail)|not enough (?:information|data|detail|evidence)"
    r"|as an ai|consult (?:a|your|with)|undetermined|indeterminate|inconclusive|unclear|unknown|not answerable"
    r"|unanswerable|need more information|more information is needed|depends on|it depends|either way"
    r"|any of (?:the|these|them)|all of (?:the above|these|them)|none of (?:the above|these|them)|both (?:are|options)"
    r"|i would need|i'd need|guess(?:ing)? at random|please (?:upload|provide|share|send|attach|consult)|(?:can"
    r"|happy to|glad to) help"
    r"|(?:no|the) (?:image|picture|scan|photo|figure) (?:is |was |has been |were )?(?:not )?(?:provided|attached"
    r"|available|uploaded|supplied)|"
    r"equally (?:likely|possible|plausible))"
)
REFUSAL_CHINESE = re.compile(
    r"无法|不能(?:确定|判断|回答|提供|给出|识别)|不确定|不知道|不清楚|难以(?:判断|确定|回答)|信息不足|(?:没有|没|未)(?:看到|提供|收到|上传|见到)(?:任何)?(?:图|影像|片)"
    r"|不好说|看不清|拒绝回答"
    r"|都(?:对|正确|可以|有可能|可能)|以上(?:都|皆|均)"
)


WORD = re.compile(r"[a-z_]+")
# Each phrase above has one of these; a look-up of words spares most texts the search.
KEYWORDS = frozenset(
    str.split(
        "grader verifier evaluator scorer autograder automatic automated llm judge reward rewards ignore"
        " disregard system developer full maximum score scores grade accuracy accuracies mark count treat"
        " accept rate consider reference ground gold golden expected stored hidden key is_correct whatever"
        " output return print assert sys can cannot could couldn unable impossible possible able difficult"
        " hard decline refuse won will rather going allowed do does don know idea clue sure insufficient"
        " enough ai consult undetermined indeterminate inconclusive unclear unknown answerable"
        " unanswerable information depends either any all none both would i need guess guessing please"
        " help provided attached available uploaded supplied equally"
    )
)


def own_words(item: Item) -> str:
    """What the item's own answers say, lower case: words of theirs are no evasion."""
    return " ".join((item.answer, *item.options)).lower()


def _found(text: str) -> Iterator[tuple[str, str]]:
    """Each way in which the text may be no answer: what to call it, and its words."""
    if not KEYWORDS.isdisjoint(WORD.findall(text)):
        for reason, pattern in (("speaks to the grader", TO_THE_GRADER), ("declines to answer", REFUSAL)):
            if found := pattern.search(text):
                yield reason, found[0]
    if not text.isascii():
        for reason, pattern in (
            ("speaks to the grader", TO_THE_GRADER_CHINESE),
            ("declines to answer", REFUSAL_CHINESE),
        ):
            if found := pattern.search(text):
                yield reason, found[0]


def evasion(item: Item, text: str) -> str | None:
    """Why the lower-case text is no answer to the item; None where it may be one."""
    for reason, words in _found(text):
        if words not in own_words(item):
            return f"{reason}: {words[:60]!r}"
    return None
