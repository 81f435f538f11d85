"""What MedEvalKit takes an item for: which of its prompts and rules applies, and its gold answer as that tool has it.

The tool has one class a dataset, so the choice hangs on ``item.source`` first and on kind and metadata after that:

- SLAKE: metadata ``answer_type`` CLOSED or OPEN (yes/no counts as closed where it is absent). Its yes/no rule tests
  for lower-case golds, and SLAKE's are `Yes` and `No`: so it never applies, and a closed answer must match exactly.
- VQA-RAD, PathVQA and any set that it does not know: a gold of yes or no is a judgement, everything else is open
  (是 and 否 of an unknown set are closed, like SLAKE's).
- MMMU: its own two parsers. All other choices share one parser.

It knows no numbers and no boxes: they are compared as text. A set that it does not know is put and read like the
nearest one that it does.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Item

SLAKE, MMMU, PMC_VQA, OMNI_MED_VQA, PUBMED_QA = "slake", "mmmu", "pmcvqa", "omnimedvqa", "pubmedqa"
KNOWN_SETS = (SLAKE, MMMU, PMC_VQA, OMNI_MED_VQA, PUBMED_QA)  # the sets that it treats in a way of their own
OPTION_FORMS: Mapping[str, str] = MappingProxyType({PMC_VQA: "{letter}:{text}", PUBMED_QA: "{letter}.{text}"})
CHINESE_JUDGEMENTS: Mapping[str, str] = MappingProxyType({"yes": "是", "no": "否"})


class Task(StrEnum):
    CHOICE = "choice"
    MMMU_CHOICE = "MMMU choice"
    MMMU_OPEN = "MMMU open"
    JUDGEMENT = "judgement"
    CLOSED = "closed"
    OPEN = "open"


@lru_cache(maxsize=1024)
def known_set(source: str) -> str | None:
    """The set of ``KNOWN_SETS`` that a source names: ``omni-med-vqa (test)`` is ``omnimedvqa``."""
    letters = "".join(character for character in source.casefold() if character.isalnum())
    return next((name for name in KNOWN_SETS if name in letters), None)


def is_chinese(item: Item) -> bool:
    return item.metadata.get("language") == "zh"


def task_of(item: Item) -> Task:
    """Which of the tool's rules an item falls under; raises DataError for a report, which has none here."""
    source = known_set(item.source)
    match item.answer_kind:
        case AnswerKind.CHOICE:
            return Task.MMMU_CHOICE if source == MMMU else Task.CHOICE
        case AnswerKind.REPORT:
            raise DataError(f"item {item.id} has the answer kind report", "a kind with a rule", "leave reports out")
        case kind:
            if source == MMMU:
                return Task.MMMU_OPEN
            if source == SLAKE:
                answer_type = item.metadata.get("answer_type") or ("CLOSED" if kind is AnswerKind.YES_NO else "OPEN")
                return Task.CLOSED if str(answer_type).strip().upper() == "CLOSED" else Task.OPEN
            if gold_text(item).strip().lower() in ("yes", "no"):
                return Task.JUDGEMENT
            return Task.CLOSED if kind is AnswerKind.YES_NO and is_chinese(item) else Task.OPEN


def gold_text(item: Item) -> str:
    """The answer as published, which importers keep as metadata ``gold``; without it, 是 and 否 for Chinese yes/no."""
    published = item.metadata.get("gold")
    if isinstance(published, str):
        return published
    if item.answer_kind is AnswerKind.YES_NO and is_chinese(item):
        return CHINESE_JUDGEMENTS.get(item.answer, item.answer)
    return item.answer


def letter_of(index: int) -> str:
    return chr(ord("A") + index)


def gold_index(item: Item) -> int:
    """Which option is right; of equal options the first, but OmniMedVQA's loader takes the last."""
    wanted = item.answer.strip().casefold()
    equal = [i for i, option in enumerate(item.options) if option == item.answer]
    equal = equal or [i for i, option in enumerate(item.options) if option.strip().casefold() == wanted]
    if not equal:
        raise DataError(f"the answer {item.answer!r} is none of the options {list(item.options)}", "one option's text")
    return equal[-1] if known_set(item.source) == OMNI_MED_VQA else equal[0]


def lettered_options(item: Item) -> list[str]:
    """The options as the tool lists them and as it compares with them: `A. text`, in PMC-VQA's file `A:text`."""
    form = OPTION_FORMS.get(known_set(item.source) or "", "{letter}. {text}")
    return [form.format(letter=letter_of(i), text=option) for i, option in enumerate(item.options)]
