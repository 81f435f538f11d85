"""What a question asks, as a set of words in which rephrasings meet, and how far two questions agree.

Function words and words for the picture itself say nothing; words for what is asked (which organ, where, how many)
are one word each. A question that replaces one content word by another is another question, however alike the rest:
*is the liver enlarged* is not *is the spleen enlarged*.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from rapidfuzz.distance import OSA

from residency.platform.verifiers.chinese import chinese_words, has_chinese
from residency.platform.verifiers.normal_form import normal_form
from residency.platform.verifiers.short import with_synonyms, words_of

SHORTEST_MISSPELT = 6  # letters; shorter words differ by meaning
SHORTEST_STEM = 5
LONG = 12  # content words: a case report, where a changed word is an edit rather than another question
MIN_LONG = 0.9

FUNCTION = frozenset(
    str.split(
        "a an the this that these those it its there here is are was were be been being am do does did done have has"
        " had having can could may might will would shall should must to of in on at for from by with within into"
        " onto upon as and or if then so such any some which what who whom whose when how you your"
        " we our us me my i one"
        " please kindly tell say state name give describe identify determine indicate specify choose select pick"
        " answer question following option based look looking given see seen saw shown show depict depicted display"
        " displayed present presented visible visualize visualized appear appearing find found observe observed note"
        " noted notice noticed detect detected recognize recognized image picture photo photograph figure scan film"
        " slide study view about evidence sign exist existing contain containing demonstrate"
        " demonstrated reveal revealed represent represented use used using take taken obtain obtained acquire"
        " acquired produce produced make made get got kind type sort best most likely probably"
        " probable patient s t medical"
        " able according currently exactly also available provided attached involve involved try know"
        " let help need want think believe consider like just really correct true"
        " hi hello dear thank briefly brief short concise concisely notice aged age year old suffer suffered"
        " complain complained"
    )
)
CONCEPTS = {
    "@where": "where location located position site situated lie lying region area place localized",
    "@count": "many number count total amount quantity",
    "@modality": "modality technique method acquisition radiology procedure examination exam",
    "@organ": "organ structure anatomy anatomical",
    "@disease": "disease diagnosis condition pathology disorder illness diagnose diagnosed suffer",
    "@finding": "abnormality abnormal finding anomaly lesion abnormally pathological",
    "@plane": "plane orientation projection section slice cut",
    "@color": "color hue stain stained",
    "@not": "not no without absent absence lack lacking free cannot n't never none neither nor",
    "@size": "big large size dimension diameter",
    "@enlarged": "enlarged enlargement bigger larger increase",
}
CONCEPT = {word: concept for concept, words in CONCEPTS.items() for word in words.split()}
ORDERED = frozenset(("than", "before", "after", "between", "versus"))  # who comes first matters
KNOWN = tuple(sorted(word for word in FUNCTION | set(CONCEPT) if len(word) >= SHORTEST_MISSPELT))
SCAN_KIND = re.compile(r"\b(?:kind|type|sort)s? of (?:scan|image|imaging|picture|film|study|investigation)\b")
CHINESE_FRAME = re.compile(
    r"请问|请|这张|这幅|该|此|本|图像|图片|影像|照片|图|中的|中|里面|里|上|的|了|是否|吗|呢|什么|哪个|哪种|哪些|哪一|"
    r"可以|能|看到|看见|显示|存在|有没有|有|是|属于|一个|个|种|类型"
)


@dataclass(frozen=True, slots=True)
class QuestionForm:
    """The question's words in order, and those that carry its content."""

    words: tuple[str, ...]
    content: frozenset[str]
    ordered: bool

    @property
    def text(self) -> str:
        """The content words by alphabet, for shingles: a rephrasing moves them about."""
        return " ".join(sorted(self.content))


@lru_cache(maxsize=1 << 16)
def question_form(question: str) -> QuestionForm:
    """English or Chinese; the image marker of a prompt is no word."""
    normal = normal_form(question.replace("<image>", " "))
    if has_chinese(normal):
        words = chinese_words(CHINESE_FRAME.sub("", normal.replace(" ", "")))
        return QuestionForm(words, frozenset(words), True)
    words = tuple(CONCEPT.get(word, word) for word in with_synonyms(words_of(SCAN_KIND.sub("modality", normal))))
    content = frozenset(word for word in words if word not in FUNCTION)
    if "imaging" in content:  # *which imaging plane* asks for the plane, *which imaging was done* for the modality
        content = content - {"imaging"} or frozenset(("@modality",))
    return QuestionForm(words, content, not ORDERED.isdisjoint(words))


def similarity(one: QuestionForm, other: QuestionForm) -> float:
    """0–1: the share of the longer question's content words that the other has too; 0 where a word was exchanged.

    Two questions without any content word (*what is this?*) agree.
    """
    if one.content == other.content:
        return _in_order(one, other)
    only_one, only_other = _mended(one.content - other.content), _mended(other.content - one.content)
    both = only_one & only_other
    only_one, only_other = only_one - both, only_other - both
    for word in sorted(only_one):
        near = next((each for each in sorted(only_other) if _one_word(word, each)), None)
        if near is not None:
            only_one.discard(word)
            only_other.discard(near)
    longer = max(len(one.content), len(other.content))
    shared = len(one.content) - len(only_one)
    if only_one and only_other and longer < LONG:
        return 0.0
    if not only_one and not only_other:
        return _in_order(one, other)
    return shared / longer


def _in_order(one: QuestionForm, other: QuestionForm) -> float:
    if not (one.ordered or other.ordered):
        return 1.0
    same = [word for word in one.words if word in one.content] == [
        word for word in other.words if word in other.content
    ]
    return 1.0 if same else 0.0


def _mended(words: frozenset[str]) -> set[str]:
    """Without the words that are a misspelt function word, and with the concept of a misspelt concept word."""
    known = {word: _known(word) for word in words}
    return {CONCEPT.get(meant, word) for word, meant in known.items() if meant not in FUNCTION}


@lru_cache(maxsize=1 << 14)
def _known(word: str) -> str:
    """The function or concept word that this is a slip of; else ''."""
    if len(word) < SHORTEST_MISSPELT or not word.isalpha():
        return ""
    return next((each for each in KNOWN if abs(len(each) - len(word)) < 2 and _is_slip(word, each)), "")


def _is_slip(one: str, other: str) -> bool:
    """Two letters exchanged, or one left out or doubled; another letter in its place makes another word of medicine."""
    if min(len(one), len(other)) < SHORTEST_MISSPELT or OSA.distance(one, other, score_cutoff=1) > 1:
        return False
    return len(one) != len(other) or sorted(one) == sorted(other)


def _one_word(one: str, other: str) -> bool:
    """Two forms or spellings of one word: ``calcified`` and ``calcification``, ``pnuemonia`` and ``pneumonia``."""
    shorter = min(len(one), len(other))
    if shorter < SHORTEST_STEM or one[0] == "@" or other[0] == "@" or not (one.isalpha() and other.isalpha()):
        return False
    stem = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    return (stem >= SHORTEST_STEM and stem >= 0.6 * max(len(one), len(other))) or _is_slip(one, other)


def asks_the_same(one: QuestionForm, other: QuestionForm, yes_no: bool, least: float) -> bool:
    """Whether two questions with the same answer about the same picture are one.

    Where the answer says nothing (``yes_no``) no content word may be missing; else ``least`` of them agree.
    """
    return says_enough(similarity(one, other), max(len(one.content), len(other.content)), yes_no, least)


def says_enough(value: float, content_words: int, yes_no: bool, least: float) -> bool:
    """The thresholds on ``similarity``."""
    if content_words >= LONG:
        return value >= MIN_LONG
    return value >= (1.0 if yes_no else least)
