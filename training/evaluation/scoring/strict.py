"""Profile `strict`: the platform's own prompts and verifiers. It abstains where another tool would guess."""

from dataclasses import replace

from residency.platform.prompts import render_prompt
from residency.platform.recipe import RewardConfig
from residency.platform.records import Item, PromptMode, Verdict
from residency.platform.verifiers.judging import judge
from residency.platform.verifiers.rules import VERIFIER_VERSION

NAME = "strict"
VERSION = VERIFIER_VERSION
ACCURACY_ONLY = RewardConfig(weights={"accuracy": 1.0})  # a format is for training; a score is for answers


def prompt(item: Item, mode: PromptMode) -> str:
    """The text that training uses too."""
    return render_prompt(item, mode)


def score(item: Item, trace_id: str, text: str, mode: PromptMode) -> Verdict:
    """The verifier's verdict with the accuracy alone as its score; raises DataError for an item it cannot judge."""
    return replace(judge(item, trace_id, text, mode, ACCURACY_ONLY), verifier=f"{NAME}/{item.answer_kind.value}")
