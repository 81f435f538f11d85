"""How MedEvalKit finds an answer in a text, oddities included.

Facts from alibaba-damo-academy/MedEvalKit at 9b12e3b (`utils/utils.py`, `utils/MMMU/eval_utils.py`; both read in
Moenupa/MedEvalKit at 23134e0 and dd662be) and hiyouga/MathRuler at c904bf8 (the box). The code is our own.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from residency.training.evaluation.scoring.medevalkit_tasks import letter_of

BOXED = "\\boxed{"
OPENED, CLOSED = "<answer>", "</answer>"
NO_BOX = "None"  # the tool goes on with this word, as if it had been said
MARKERS = (
    "**answer**:", "**answer**", "*answer*:", "**answer:**", "answer is", "answer:", "答案:", "final answer",
    "final answer is",
)  # fmt: skip
PUNCTUATION = (",", ".", "!", "?", ";", ":", "'")
KEY_PHRASES = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
BRACE = re.compile(r"[{}]")
# Possessive, and never begun inside a run of digits: the same numbers as by plain quantifiers, in linear time.
NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?(?<!\d)\d++(?:\.\d++)?[eE][+-]?\d+"),
    re.compile(r"-?(?:(?<!\d)\d++\.\d++|\.\d++|(?<!\d)\d++\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def last_box(text: str) -> str | None:
    """What the last `\\boxed{…}` holds, braces balanced; None where there is none, or it holds the word None."""
    start = text.rfind(BOXED)
    if start < 0:
        return None
    depth = 1
    for brace in BRACE.finditer(text, start + len(BOXED)):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            inside = text[start + len(BOXED) : brace.start()].strip()
            return None if inside == NO_BOX else inside
    return None


def box_or_word(text: str) -> str:
    box = last_box(text)
    return NO_BOX if box is None else box


def tagged(text: str) -> str:
    """All `<answer>…</answer>`, joined by blanks; the whole text where there is none, or none holds anything."""
    inside, start = [], text.find(OPENED)
    while start >= 0 and (end := text.find(CLOSED, start + len(OPENED))) >= 0:
        inside.append(text[start + len(OPENED) : end])
        start = text.find(OPENED, end + len(CLOSED))
    return " ".join(inside).strip() or text


def boxed_or_tagged(text: str) -> str:
    """The first cut for SLAKE, VQA-RAD and PathVQA: the box, else the tags, else everything."""
    box = last_box(text)
    return tagged(text) if box is None else box


def final_part(text: str) -> str:
    """The second cut, for every rule but MMMU's: lower case, box or tags, then what follows the last marker of each."""
    said = text.lower()
    if "boxed" in said:
        said = box_or_word(said)
    elif OPENED in said:
        said = tagged(said)
    for marker in MARKERS:
        if marker in said:
            said = said.rpartition(marker)[2]
    return said


def choice_part(text: str, num_options: int) -> str:
    """What a choice is read from: a first or last paragraph that is a letter, else the final part; on one line."""
    said, letters = text.lower(), lower_letters(num_options)
    paragraphs = said.split("\n\n")
    last = paragraphs[-1].split(".")[0]
    if paragraphs[0] in letters:
        said = paragraphs[0]
    elif last in letters:
        said = last
    return final_part(said).strip().lower().replace("\n", "")


def said_letter(part: str, num_options: int) -> int | None:
    """The option whose bare letter stands before the first full stop, after the last colon; None asks for a guess.

    Letters beyond the options are none, and neither is `(b)` or ` b`: nothing is stripped here.
    """
    head = part.split(".")[0].split(":")[-1]
    letters = lower_letters(num_options)
    return letters.index(head) if head in letters else None


def lower_letters(num_options: int) -> list[str]:
    return [letter_of(i).lower() for i in range(num_options)]


def nearest_option(options: Sequence[str], said: str) -> int:
    """The option most like what was said by difflib's ratio; the first one where none is alike at all."""
    matcher = SequenceMatcher(None, "", said)  # it analyses its second text once
    nearest, highest = 0, 0.0
    for i, option in enumerate(options):
        matcher.set_seq1(option.lower())
        if matcher.real_quick_ratio() > highest and matcher.quick_ratio() > highest:  # upper bounds: same result
            ratio = matcher.ratio()
            if ratio > highest:
                nearest, highest = i, ratio
    return nearest


def mmmu_span(text: str) -> str:
    """MMMU's cut: the tags, and then the box inside or, without one, what was cut."""
    said = tagged(text)
    box = last_box(said)
    return said if box is None else box


def mmmu_choice(span: str, options: Sequence[str]) -> tuple[int | None, str]:
    """(option, rule): the last `(B)`, else the last capital between blanks, else the last option's text in a text of
    more than five words; None where the tool would draw a random letter."""
    said = span
    if OPENED in span:
        said = tagged(span)
    elif "\\boxed" in span:
        said = box_or_word(span)
    said = said.strip()
    for character in PUNCTUATION:
        said = said.strip(character)
    said = f" {said} "
    for rule, form in (("letter in brackets", "({})"), ("capital letter between blanks", " {} ")):
        places = {i: said.rfind(form.format(letter_of(i))) for i in range(len(options))}
        places = {i: place for i, place in places.items() if place >= 0}
        if places:
            return max(places, key=lambda i: places[i]), rule
    if len(said.split()) > 5:
        lowered = said.lower()
        places = {i: lowered.rfind(option.lower()) for i, option in enumerate(options)}
        places = {i: place for i, place in places.items() if place >= 0}
        if places:
            return max(places, key=lambda i: places[i]), "option's text in a sentence"
    return None, "no letter and no option found"


def mmmu_values(span: str) -> set[str | float]:
    """Every text and number that MMMU's open rule takes for a possible answer."""
    said = span.strip().strip(".").lower()
    lines = said.split("\n")
    tails: list[str] = []
    for number, line in enumerate(lines, start=1):
        phrases = (*KEY_PHRASES, "=") if number == len(lines) else KEY_PHRASES
        shortest = ""
        for phrase in phrases:
            if phrase in line:
                tail = line.rpartition(phrase)[2].strip()
                if not shortest or len(tail) < len(shortest):
                    shortest = tail
        if shortest and shortest not in PUNCTUATION:
            tails.append(shortest)
    tails = tails or [said]
    numbers = {number for tail in tails for pattern in NUMBERS for number in pattern.findall(tail)}
    return {value for text in (*tails, *numbers) for value in mmmu_normal(text)}


def mmmu_normal(text: str) -> list[str | float]:
    """A number to two places; else lower case, a single character with a blank before or after it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def mmmu_open(span: str, golds: Sequence[str]) -> bool:
    """Right where a gold's text is part of a possible answer, or a number equals it."""
    wanted = [value for gold in golds for value in mmmu_normal(gold)]
    texts = [text for text in wanted if isinstance(text, str)]
    return any(
        any(text in value for text in texts) if isinstance(value, str) else value in wanted
        for value in mmmu_values(span)
    )
