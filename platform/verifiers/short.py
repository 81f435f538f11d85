"""Short answers: equal after case, articles, punctuation, plural, spelling and synonyms are taken out."""

import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from residency.platform.errors import DataError
from residency.platform.records import Item
from residency.platform.verifiers.chinese import chinese_answers, chinese_words, has_chinese
from residency.platform.verifiers.finding import Finding, right_or_wrong
from residency.platform.verifiers.normal_form import bare, normal_form
from residency.platform.verifiers.plurals import singular
from residency.platform.verifiers.spellings import one_spelling
from residency.platform.verifiers.synonyms import ADJECTIVES, GROUPS, groups

Words = tuple[str, ...]
Table = dict[str, list[tuple[Words, Words]]]  # first word → (phrase, what stands for it), longest first

WORD = re.compile(r"[<>≤≥±-]?(?<![\w.-][<>≤≥±-])[0-9]+(?:[.,:/][0-9]+)*%?|[^\W_]+|[%+±&]")
# Written with a hyphen or without: `hyper-intense`, `antero-posterior`.
PREFIX = re.compile(
    r"\b(hyper|hypo|iso|intra|inter|extra|sub|supra|infra|peri|para|retro|pseudo|multi|micro|macro|ultra|antero"
    r"|postero|medio"
    r"|latero|supero|infero|dorso|ventro|gastro|broncho|cardio|hepato|osteo|musculo|thoraco|naso|oro|ileo|pre"
    r"|post|cranio)"
    r"-(?=[a-z]{3})"
)
POSSESSIVE = re.compile(r"(?<=\w)'s?\b")
ARTICLES = frozenset(("a", "an", "the"))
LEAD_IN = re.compile(
    r"^(?:(?:so|thus|therefore|hence|overall|in conclusion|in summary),? )?(?:the |my )?(?:final |correct |best "
    r"|right )?"
    r"answer(?: to (?:the|this) question)?(?: is|:| would be)+:? |^(?:最终)?(?:答案|回答|结论)(?:是|为)?[:,]? ?"
)
HEDGES = re.compile(
    r"\b(?:most likely|most probably|likely|probably|probable|clearly|definitely|consistent with|compatible with"
    r"|suggestive of|indicative of|typical of|characteristic of|in keeping with|evidence of|a case of|an example of"
    r"|a type of|a finding of|a diagnosis of|signs? of|called|known as|diagnosed as|i think|i believe|i would say"
    r"|in my opinion|located in|located on|found in|seen in|seen on)\b"
)
COPULA = re.compile(
    r" (?:is|are|was|were|shows?|shown|demonstrates?|reveals?|depicts?|displays?|indicates?|suggests?|represents?"
    r"|appears to be|would be|must be|should be|seems to be|has|have|contains?|being)(?: |$)|: "
)
ALTERNATIVE = re.compile(
    r" ?/ ?|, (?:i\.?e\.?,?|that is,?|also (?:known as|called)|or|aka) | (?:or|aka|a\.k\.a\.|i\.e\.) "
)
PARENTHESIS = re.compile(r"^([^()]+)\(([^()]+)\)(.*)$")
FRAME_WORDS = frozenset(
    singular(word)
    for word in str.split(
        "answer final correct best most likely diagnosis finding image picture scan film study slide"
        " figure photo photograph this that these those it there here in on of at to for by patient which"
        " what is are was were be been organ structure modality imaging technique plane abnormality"
        " condition lesion disease main primary present visible seen shown depicted displayed identified"
        " noted observed demonstrated pathology area region part location side site type kind question"
        " medical used affected involved highlighted indicated marked labeled pointed arrow and my so"
        " therefore thus hence conclusion view specimen short response result based looking given judging"
        " considering review impression summary interpretation assessment output reading reply your you"
        " see i think believe can tissue section exam examination cell appears appear show demonstrate"
        " reveal can"
    )
)
METHODS = frozenset(
    ("x", "ray", "radiograph", "ct", "mri", "mr", "ultrasound")
)  # an image shows, never an answer's tail
AXES = tuple(
    frozenset(axis.split())
    for axis in ("left right bilateral", "upper lower", "anterior posterior", "medial lateral", "proximal distal")
)
ORDERLESS = frozenset(("of", "in", "to"))
LIST = re.compile(r",? and |[,;] ?")


@lru_cache(maxsize=65536)
def one_word(word: str) -> str:
    return one_spelling(singular(word))


def base_form(text: str) -> Words:
    """The words in order, one spelling and number, without articles: what an open answer is compared by."""
    normal = normal_form(text)
    if has_chinese(normal):
        return chinese_words(normal.replace(" ", ""))
    return words_of(normal)


def words_of(normal: str) -> Words:
    if "-" in normal:
        normal = PREFIX.sub(r"\1", normal)
    if "'" in normal:
        normal = POSSESSIVE.sub("", normal)
    found = WORD.findall(normal)
    kept = [word for word in found if word not in ARTICLES] or found
    return tuple([one_word(word) for word in kept])


def table_of(phrases: Mapping[str, Iterable[str]]) -> Table:
    """A table of synonyms in the form in which ``with_synonyms`` looks them up."""
    table: Table = {}
    for first, others in phrases.items():
        meant = words_of(normal_form(first))
        for other in others:
            phrase = words_of(normal_form(other))
            if phrase and phrase != meant:
                table.setdefault(phrase[0], []).append((phrase, meant))
        if len(meant) > 1:  # stays whole: a shorter phrase within it is not replaced
            table.setdefault(meant[0], []).append((meant, meant))
    for entries in table.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return table


@cache
def medical_table() -> Table:
    return table_of(groups(GROUPS))


def replaced(words: Words, table: Table) -> Words:
    """The words with each phrase of the table, longest first, by what stands for it."""
    result: list[str] = []
    position = 0
    while position < len(words):
        for phrase, meant in table.get(words[position], ()):
            if words[position : position + len(phrase)] == phrase:
                result.extend(meant)
                position += len(phrase)
                break
        else:
            result.append(words[position])
            position += 1
    return tuple(result)


def with_synonyms(words: Words) -> Words:
    """The words with each synonym by what stands for it and the adjective of an organ by the organ."""
    words = replaced(words, medical_table())
    return tuple([ADJECTIVES.get(word, word) for word in words])


def meaning(words: Words) -> Words:
    """What two equal answers have in common: order does not count where no direction is named twice."""
    words = with_synonyms(words)
    if len(words) > 2 and any(sum(word in axis for word in words) > 1 for axis in AXES):
        return words
    return tuple(sorted(word for word in words if word not in ORDERLESS)) or words


@lru_cache(maxsize=8192)
def question_words(question: str) -> frozenset[str]:
    return frozenset(words_of(normal_form(question)))


@lru_cache(maxsize=8192)
def gold_form(text: str) -> Words:
    normal = normal_form(text)
    return chinese_words(normal.replace(" ", "")) if has_chinese(normal) else meaning(words_of(normal))


def readings(normal: str, question: str) -> list[Words]:
    """The word lists that a span may be read as: whole, or without the sentence around the answer."""
    text = LEAD_IN.sub("", bare(normal))
    text = " ".join(HEDGES.sub(" ", text).split()) if " " in text else text
    found = [words_of(text)]
    if len(found[0]) > 24:
        return found
    for copula in COPULA.finditer(text):
        head, tail = words_of(text[: copula.start()]), words_of(text[copula.end() :])
        known = FRAME_WORDS | question_words(question)
        if tail and known.issuperset(word for word in head if word not in METHODS):
            found.append(tail)
            rest = text[copula.end() :]
            if trimmed := _without_place(rest):
                found.append(words_of(trimmed))
        if head and known.issuperset(tail) and not {"no", "not"} & set(tail):
            found.append(head)
            if head[0] in ("this", "there", "it"):
                found.append(head[1:])
    if trimmed := _without_place(text):
        found.append(words_of(trimmed))
    return found


PLACE = re.compile(
    r" (?:(?:is |are )?(?:seen|shown|visible|present|depicted|demonstrated|noted|identified|displayed|observed) ?)?"
    r"(?:(?:in|on|of|from) (?:the |this |that )?(?:given |provided |above |presented )?"
    r"(?:image|picture|scan|film|figure|x-ray|radiograph|slide|study|photograph|photo|patient))?$"
)
LEADING_THIS = re.compile(
    r"^(?:this |it )?(?:looks like|(?:appears|seems) to be) (?:an? |the )?"
    r"|^(?:this|it|there|these|that)(?: |'s |'re )(?:is |are |shows )?(?:an? |the )?|^(?:the|in|on|at) "
    r"|^(?:i|we|you|one)(?: can| could| do| would| also| clearly| just)* (?:see|find|found|note|observe"
    r"|identify|diagnose|recogni[sz]e|call (?:it|this)|name|spot|detect|appreciate|think of"
    r"|(?:say|think|believe)(?: that)?(?: (?:it|this)(?: is|'s))?)"
    r" (?:an? |the )?"
)


def _without_place(text: str) -> str:
    """The text without `is seen on this image` at its end and `this is a` at its start; empty where nothing is left."""
    place = PLACE.search(text)
    cut = text[: place.start()] if place else text
    cut = LEADING_THIS.sub("", cut)
    return cut if cut != text else ""


def says(normal: str, wanted: Words, question: str, extra: Table, gold_words: Words) -> bool:
    """Whether one reading of the span means what is wanted."""
    if has_chinese(normal) or has_chinese("".join(gold_words)):
        forms = chinese_answers(normal)
        return wanted in forms or any(meaning(words_of(" ".join(form))) == wanted for form in forms)
    for words in readings(normal, question):
        if words == gold_words or meaning(replaced(words, extra) if extra else words) == wanted:
            return True
    return False


def parts_of(normal: str) -> list[str]:
    """The ways in which a span names one thing: `computed tomography (CT)`, `MRI / magnetic resonance`; else one."""
    match = PARENTHESIS.match(normal) if "(" in normal else None
    if match and not bare(match[3]):
        return [match[1], match[2]]
    pieces = [piece for piece in ALTERNATIVE.split(normal) if piece and bare(piece)]
    return pieces if len(pieces) > 1 else [normal]


def listed(normal: str) -> frozenset[Words] | None:
    """The things of a list (`liver, spleen and heart`) in no order; None for one thing."""
    things = [bare(piece) for piece in LIST.split(normal)]
    if len(things) < 2 or not all(things):
        return None
    return frozenset(meaning(words_of(thing)) for thing in things)


@lru_cache(maxsize=1024)
def extra_table(frozen: tuple[tuple[str, tuple[str, ...]], ...]) -> Table:
    return table_of(dict(frozen))


def dataset_synonyms(item: Item) -> tuple[tuple[str, ...], Table]:
    """``metadata["synonyms"]``: a list of further right answers, or a mapping of phrases to phrases that mean"
    " the same."""
    given: Any = item.metadata.get("synonyms")
    if not given:
        return (), {}
    if isinstance(given, Mapping):
        frozen = tuple((str(k), tuple(map(str, v)) if not isinstance(v, str) else (v,)) for k, v in given.items())
        return (), extra_table(frozen)
    return tuple(map(str, (given,) if isinstance(given, str) else given)), {}


def judge_short(item: Item, span: str) -> Finding:
    """Right where one reading of the span means the answer or a synonym that the dataset gives."""
    others, extra = dataset_synonyms(item)
    normal_gold = normal_form(item.answer)
    gold_words = words_of(normal_gold)
    if not gold_words:
        raise DataError(f"the answer {item.answer!r} of a short question", "at least one word")
    wanted = gold_form(item.answer)
    if extra and not has_chinese(normal_gold):
        wanted = meaning(replaced(gold_words, extra))
    normal = normal_form(span)
    if not words_of(normal):
        return Finding(None, "no word said")
    if says(normal, wanted, item.question, extra, gold_words):
        return Finding(1.0, f"means {item.answer[:60]!r}")
    for other in others:
        if says(normal, gold_form(other), item.question, {}, words_of(normal_form(other))):
            return Finding(1.0, f"means the dataset's synonym {other[:60]!r}")
    pieces = parts_of(normal)
    forms = (wanted, *map(gold_form, others))
    if len(pieces) > 1 and all(
        any(says(piece, form, item.question, extra, gold_words) for form in forms) for piece in pieces
    ):
        return Finding(1.0, f"names {item.answer[:60]!r} in several ways")
    gold_list = listed(bare(normal_gold)) if "," in normal_gold or " and " in normal_gold else None
    if gold_list and listed(LEAD_IN.sub("", bare(normal))) == gold_list:
        return Finding(1.0, "the same list in another order")
    said = " ".join(words_of(normal))
    return right_or_wrong(False, f"says {said[:80]!r}, wanted {' '.join(wanted)[:80]!r}")
