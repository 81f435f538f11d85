"""Where a free text goes wrong: the sentence that comes to the wrong answer, for items whose facts nobody annotated."""

import re

from residency.platform.records import AnswerKind, Item
from residency.synthesis.claims import ANSWER, CONCLUSION, THINK, Claim, WrongClaim, answers, first_wrong
from residency.synthesis.routing.masking import CONCLUDES, SENTENCE


def has_facts(item: Item) -> bool:
    """Whether the item carries a task and facts, so that the claims of a text can be checked one by one."""
    return isinstance(item.metadata.get("task"), str) and isinstance(item.metadata.get("facts"), dict)


def find_wrong(item: Item, text: str) -> WrongClaim | None:
    """The first claim that the facts contradict, or without facts the conclusion that the item's answer contradicts."""
    return first_wrong(item, text) if has_facts(item) else wrong_conclusion(item, text)


def wordings(item: Item, said: str) -> list[str]:
    """How the wrong answer may stand in the thinking: as it was given, and as the option that a letter names."""
    found = [said]
    letter = re.fullmatch(r"\(?([A-Za-z])\)?[.:)]?(?:\s+(?P<rest>.+))?", said, re.DOTALL)
    if item.answer_kind is AnswerKind.CHOICE and letter:
        number = ord(letter[1].upper()) - ord("A")
        found += [letter["rest"]] if letter["rest"] else []
        found += [item.options[number]] if number < len(item.options) else []
        found[0] = letter[1].upper() if not letter["rest"] else said
    return found


def spans_of(body: str, wording: str) -> list[tuple[int, int]]:
    if len(wording) == 1 and wording.isalpha():  # an option's letter, and not the article of "a cell"
        return [match.span() for match in re.finditer(rf"(?<![\w']){wording}(?![\w'])(?!\s+[a-z])", body)]
    edge = r"(?<!\w)" if wording[:1].isalnum() else ""
    pattern = edge + re.escape(wording) + (r"(?!\w)" if wording[-1:].isalnum() else "")
    return [match.span() for match in re.finditer(pattern, body, re.IGNORECASE)]


def wrong_conclusion(item: Item, text: str) -> WrongClaim | None:
    """The wrong answer where the thinking first concludes it, else where it says it last.

    ``in_answer`` where the thinking never says it: then only the answer is wrong. None where the answer is right, or
    where there is none.
    """
    think = THINK.search(text)
    answer = ANSWER.search(text, think.end() if think else 0)
    if think is None or answer is None or answers(item, answer["body"]):
        return None
    said, body, offset = " ".join(answer["body"].split()), think["body"], think.start("body")
    sentences = [match for match in SENTENCE.finditer(body) if match.group().strip()]
    found = [(span, wording) for wording in wordings(item, said) for span in spans_of(body, wording)] if said else []
    concluded = [
        (span, wording)
        for span, wording in sorted(found)
        if any(s.start() <= span[0] < s.end() and CONCLUDES.search(s.group()) for s in sentences)
    ]
    if not found:
        claim = Claim(fact=CONCLUSION, value=said, start=answer.start("body"), end=answer.end("body"))
        return WrongClaim(claim=claim, right=item.answer, in_answer=True)
    (start, end), wording = concluded[0] if concluded else max(found)
    claim = Claim(fact=CONCLUSION, value=wording, start=offset + start, end=offset + end)
    return WrongClaim(claim=claim, right=item.answer)


def concluding_start(body: str) -> int:
    """Where a text without facts begins to conclude: its first concluding sentence, else its last one."""
    sentences = [match for match in SENTENCE.finditer(body) if match.group().strip()]
    concluding = [match for match in sentences if CONCLUDES.search(match.group())]
    return (concluding or sentences[-1:])[0].start() if sentences else 0
