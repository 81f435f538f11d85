"""What a text claims: fact phrases read back out of a rationale and compared with the item's annotations."""

import re
from dataclasses import dataclass
from functools import cache

from residency.platform.records import Item
from residency.platform.verifiers.rules import judge_answer
from residency.synthesis.annotations_teacher import FRAME_WORDS, task_of
from residency.synthesis.facts import TASKS

CONCLUSION = "conclusion"  # the pseudo-fact whose value is the answer that the rationale comes to

THINK = re.compile(r"<\s*think\s*>(?P<body>.*?)<\s*/\s*think\s*>", re.DOTALL | re.IGNORECASE)
ANSWER = re.compile(r"<\s*answer\s*>\s*(?P<body>.*?)\s*<\s*/\s*answer\s*>", re.DOTALL | re.IGNORECASE)
# A full stop before a digit belongs to a number, also where the detokenizer put a space into it.
SENTENCE_END = r"[.!?](?!\s*\d)"
CLAUSE_END = re.compile(r"\s*(?:[,;]|" + SENTENCE_END + ")")


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A fact that a text states: ``text[start:end]`` is the phrase, ``value`` one of the fact's vocabulary.

    For the pseudo-fact ``conclusion`` the value is the answer as it was written.
    """

    fact: str
    value: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongClaim:
    """A claim that the annotations contradict; ``right`` is what they say, ``in_answer``: only the answer is wrong."""

    claim: Claim
    right: str
    in_answer: bool = False


def flexible(text: str) -> str:
    """A pattern for the text's words and signs with any white space between them."""
    return r"\s*".join(
        re.escape(piece) + (r"(?!\w)" if piece[-1].isalnum() else "") for piece in re.findall(r"\w+|[^\w\s]", text)
    )


def split_template(template: str, slot: str) -> tuple[str, str]:
    before, _, after = template.partition("{" + slot + "}")
    return before, after


@cache
def fact_patterns(task: str) -> tuple[tuple[str, re.Pattern[str]], ...]:
    patterns = []
    for fact in TASKS[task].facts:
        before, after = (flexible(part) for part in split_template(fact.phrase, "value"))
        after = rf"\s*{after}" if after else ""  # a phrase never ends in white space
        values = "|".join(flexible(value) for value in sorted(fact.values, key=len, reverse=True))
        patterns.append((fact.name, re.compile(rf"(?<!\w){before}\s*(?P<value>{values}){after}", re.IGNORECASE)))
    return tuple(patterns)


@cache
def conclusion_pattern(task: str) -> re.Pattern[str]:
    before, after = (flexible(part) for part in split_template(TASKS[task].conclusion, "answer"))
    # The answer is open text (an option, a number, boxes): it reaches to the end of its sentence.
    return re.compile(
        rf"(?<!\w){before}\s*(?P<value>[^<\n]*?[^<\s]){after}(?=\s*(?:{SENTENCE_END}|<|\n|\Z))", re.IGNORECASE
    )


@cache
def vocabulary(task: str) -> dict[tuple[str, str], str]:
    """(fact, value without white space, lower case) → the value as the vocabulary spells it."""
    return {(fact.name, "".join(value.split()).lower()): value for fact in TASKS[task].facts for value in fact.values}


def parse_claims(task: str, text: str) -> list[Claim]:
    """All claims of the text in order, tolerant of odd white space and capitals; offsets are those of the text."""
    conclusions = [
        Claim(fact=CONCLUSION, value=" ".join(match["value"].split()), start=match.start(), end=match.end())
        for match in conclusion_pattern(task).finditer(text)
    ]
    claims = [
        Claim(
            fact=name,
            value=vocabulary(task)[name, "".join(match["value"].split()).lower()],
            start=match.start(),
            end=match.end(),
        )
        for name, pattern in fact_patterns(task)
        for match in pattern.finditer(text)
        if not any(conclusion.start <= match.start() < conclusion.end for conclusion in conclusions)
    ]
    return sorted(claims + conclusions, key=lambda claim: (claim.start, claim.end))


def answers(item: Item, value: str) -> bool:
    """Whether the value is the item's answer by the rule of its kind."""
    return judge_answer(item, value).accuracy == 1.0


def holds(item: Item, conclusion: str) -> bool:
    """Whether a conclusion is not wrong; words in which the rule finds no answer at all claim nothing."""
    return judge_answer(item, conclusion).accuracy in (None, 1.0)


def first_wrong(item: Item, text: str) -> WrongClaim | None:
    """The first claim that the annotations contradict, with offsets into ``text``; None where there is none.

    In a tagged completion the claims are those inside ``<think>``; where all of them are right, a wrong ``<answer>``
    is the wrong conclusion.
    """
    task, facts = task_of(item), item.metadata["facts"]
    think = THINK.search(text)
    start, end = think.span("body") if think else (0, len(text))
    for claim in parse_claims(task.name, text[start:end]):
        right = item.answer if claim.fact == CONCLUSION else facts[claim.fact]
        if holds(item, claim.value) if claim.fact == CONCLUSION else claim.value == right:
            continue
        placed = Claim(fact=claim.fact, value=claim.value, start=start + claim.start, end=start + claim.end)
        return WrongClaim(claim=placed, right=right)
    answer = ANSWER.search(text, end)
    if answer and not answers(item, answer["body"]):
        said = Claim(fact=CONCLUSION, value=answer["body"], start=answer.start("body"), end=answer.end("body"))
        return WrongClaim(claim=said, right=item.answer, in_answer=True)
    return None


def is_spoken(task: str, text: str) -> bool:
    """Whether the text is made of claims, at least one, and the teacher's joining words: nothing else is in it.

    A student that was taught to speak so is held to it: what it babbles between claims was checked by nobody.
    """
    claims = parse_claims(task, text)
    rest = text
    for claim in claims:
        rest = rest[: claim.start] + " " * (claim.end - claim.start) + rest[claim.end :]
    return bool(claims) and set(re.findall(r"\w+|[^\w\s.,;:]", rest.lower())) <= FRAME_WORDS


def clause_end(text: str, claim: Claim, limit: int) -> int:
    """Offset where the claim's clause ends, its sign included; never beyond ``limit``."""
    if ended := CLAUSE_END.match(text, claim.end, limit):
        return ended.end()
    further = re.compile(SENTENCE_END).search(text, claim.end, limit)
    return further.end() if further else claim.end + len(text[claim.end : limit].rstrip())
