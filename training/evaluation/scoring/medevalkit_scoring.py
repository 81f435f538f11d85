"""Profile `medevalkit`: scores as that tool does, so that a number can stand beside published ones (docs/scoring.md).

Facts from alibaba-damo-academy/MedEvalKit at 9b12e3b, without its LLM judge; the code is our own. Two things it does
cannot be had from a verdict: its random pick (MMMU) is drawn here from the item's id, so that it repeats; and an empty
answer to an open question ends its run with an exception, which is a wrong answer here.
"""

from collections.abc import Mapping
from typing import NamedTuple

from residency.platform.records import Item, PromptMode, Status, Verdict, short_hash
from residency.platform.verifiers.format_rule import END_TOKENS
from residency.training.evaluation.scoring.medevalkit_parsing import (
    boxed_or_tagged,
    choice_part,
    final_part,
    mmmu_choice,
    mmmu_open,
    mmmu_span,
    nearest_option,
    said_letter,
    tagged,
)
from residency.training.evaluation.scoring.medevalkit_tasks import (
    PMC_VQA,
    SLAKE,
    Task,
    gold_index,
    gold_text,
    known_set,
    letter_of,
    lettered_options,
    task_of,
)

NAME = "medevalkit"
VERSION = "1"
NOTHING: Mapping[str, float] = {}
SHOWN_CHARACTERS = 80


class Reading(NamedTuple):
    """What the tool makes of an answer. ``read`` is False where its parser found nothing and guessed or gave up."""

    right: bool
    span: str
    rule: str
    read: bool = True
    guessed: bool = False
    parts: Mapping[str, float] = NOTHING


def score(item: Item, trace_id: str, text: str, mode: PromptMode) -> Verdict:
    """The verdict by the tool's rules; it never abstains. Raises DataError for an item that has no usable gold.

    ``parts``: accuracy; format (1 where the answer was read without a guess); guessed, where it guessed; for open
    answers exact, and precision, recall and token_f1 as the tool names them, which is rotated (``token_shares``).
    """
    for token in END_TOKENS:
        text = text.removesuffix(token)
    reading = read(item, text)
    accuracy = float(reading.right)
    parts = {"format": float(reading.read), "accuracy": accuracy, **reading.parts}
    if reading.guessed:
        parts["guessed"] = 1.0
    return Verdict(
        trace_id=trace_id,
        status=Status.SCORED,
        score=accuracy,
        parts=parts,
        evidence=f"span {reading.span[:SHOWN_CHARACTERS]!r}; {reading.rule}",
        verifier=f"{NAME}/{item.answer_kind.value}",
        verifier_version=VERSION,
    )


def read(item: Item, text: str) -> Reading:
    """Applies the rule of the item's task to a completion."""
    task = task_of(item)
    match task:
        case Task.CHOICE:
            return read_choice(item, text)
        case Task.MMMU_CHOICE:
            return read_mmmu_choice(item, text)
        case Task.MMMU_OPEN:
            return read_mmmu_open(item, text)
        case _:
            said, gold = boxed_or_tagged(text), gold_text(item)
            if known_set(item.source) != SLAKE:
                said, gold = said.lower().strip(), gold.strip()
            part, gold = final_part(said), gold.lower()
            if task is Task.OPEN:
                return read_open(part, gold)
            part = part.replace("\n", "").replace(".", "")
            return read_judgement(part, gold) if task is Task.JUDGEMENT else read_closed(part, gold)


def read_choice(item: Item, text: str) -> Reading:
    """A letter, else the nearest option by difflib: noise earns guess credit, and an empty answer is A."""
    part = choice_part(text if known_set(item.source) == PMC_VQA else tagged(text), len(item.options))
    wanted, named = gold_index(item), said_letter(part, len(item.options))
    if named is not None:
        return Reading(named == wanted, part, f"letter {letter_of(named)}, wanted {letter_of(wanted)}")
    named = nearest_option(lettered_options(item), part)
    rule = f"guess: nearest option by difflib is {letter_of(named)}, wanted {letter_of(wanted)}"
    return Reading(named == wanted, part, rule, read=False, guessed=True)


def read_mmmu_choice(item: Item, text: str) -> Reading:
    span, wanted = mmmu_span(text), gold_index(item)
    named, rule = mmmu_choice(span, item.options)
    if named is not None:
        return Reading(named == wanted, span, f"{rule}: {letter_of(named)}, wanted {letter_of(wanted)}")
    drawn = int(short_hash("medevalkit", item.id), 16) % len(item.options)
    rule = f"guess: {rule}; drawn at random from the item's id: {letter_of(drawn)}, wanted {letter_of(wanted)}"
    return Reading(drawn == wanted, span, rule, read=False, guessed=True)


def read_mmmu_open(item: Item, text: str) -> Reading:
    """The validation split's loop forgets the parser and compares with single characters: never right."""
    span, gold = mmmu_span(text), gold_text(item)
    if str(item.metadata.get("row", "")).startswith("validation"):
        return Reading(False, span, "the gold is sought in single characters: no open answer of validation is right")
    right = mmmu_open(span, [gold, *item.metadata.get("synonyms", ())])
    return Reading(right, span, f"{gold!r} {'is' if right else 'is not'} in a possible answer")


def read_judgement(part: str, gold: str) -> Reading:
    """Exactly one of the substrings yes and no, and it is the gold: `no` stands in normal, not and nodule."""
    yes, no = "yes" in part, "no" in part
    if yes == no:
        found = "both yes and no occur" if yes else "neither yes nor no occurs"
        return Reading(False, part, f"{found} as a substring", read=False)
    only = "yes" if yes else "no"
    return Reading(only == gold, part, f"substring {only!r} alone, wanted {gold!r}")


def read_closed(part: str, gold: str) -> Reading:
    right = part == gold
    return Reading(right, part, f"{'equals' if right else 'is not exactly'} {gold!r}")


def read_open(part: str, gold: str) -> Reading:
    """Exact match, full stops included. BLEU and ROUGE, which the tool reports beside it, are no accuracies."""
    if not part.strip() or not part.strip("."):
        parts = {"exact": 0.0, "precision": 0.0, "recall": 0.0, "token_f1": 0.0}
        return Reading(False, part, "nothing said: the tool itself ends in an exception", read=False, parts=parts)
    right = part == gold
    parts = {"exact": float(right), **token_shares(part, gold)}
    return Reading(right, part, f"{'equals' if right else 'is not exactly'} {gold!r}", parts=parts)


def token_shares(part: str, gold: str) -> dict[str, float]:
    """Overlap of the two *sets* of words under the tool's names, which are rotated: its precision is the F1, its
    recall the precision, its F1 the recall. ``token_shares("left lung", "left")`` has the true values 1/2, 1, 2/3."""
    said, wanted = set(part.lower().split()), set(gold.lower().split())
    shared = len(said & wanted)
    if not shared:
        return {"precision": 0.0, "recall": 0.0, "token_f1": 0.0}
    precision, recall = shared / len(said), shared / len(wanted)
    return {"precision": 2 * precision * recall / (precision + recall), "recall": precision, "token_f1": recall}
