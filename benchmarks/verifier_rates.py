"""How often the verifiers err on the test kit: false accepts and false rejects by kind, with exact upper bounds.

Usage: ``python benchmarks/verifier_rates.py [--failures] [--write]``. Every case of ``tests/kit`` is judged by our
rules and, beside them, by MedEvalKit's (the scoring profile ``medevalkit``). ``tests/kit/unseen`` is apart: written
blind after the rules had been mended. The bound is Clopper and Pearson's,
one-sided, 95 %. ``--failures`` lists each case that our rules get wrong; ``--write`` puts the tables into
``docs/verifiers.md``.
"""

import argparse
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from reporting import report
from scipy.stats import beta

from residency.platform.errors import DataError
from residency.platform.recipe import RewardConfig
from residency.platform.records import Item, PromptMode, Verdict
from residency.platform.verifiers.accepting import accept
from residency.platform.verifiers.judging import judge
from residency.platform.verifiers.rules import VERIFIER_VERSION
from residency.training.evaluation.scoring.profiles import find_profile

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "verifiers.md"
BEGIN, END = "<!-- rates -->", "<!-- /rates -->"
GOAL_ACCEPTS, GOAL_REJECTS = 0.002, 0.01
CONFIDENCE = 0.95
BLIND, UNSEEN = "blind", "unseen"
SHOWN_CHARACTERS = 160

Judge = Callable[[Item, str, str, PromptMode], Verdict]


def kit_module() -> ModuleType:
    """``tests/kit/cases.py``, which is in no package."""
    path = ROOT / "tests" / "kit" / "cases.py"
    spec = importlib.util.spec_from_file_location("kit_cases", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be read as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def upper_bound(errors: int, n: int) -> float:
    """The exact (Clopper–Pearson) one-sided upper bound of a rate; 1 where there is nothing to count."""
    return 1.0 if errors >= n else float(beta.ppf(CONFIDENCE, errors + 1, n - errors))


@dataclass(slots=True)
class Tally:
    """Cases of one kind: how many were wrong and right, and which of them got the other verdict."""

    wrong: int = 0
    right: int = 0
    accepted: list[tuple[Any, str]] = field(default_factory=list)  # wrong ones, with the verdict's evidence
    rejected: list[tuple[Any, str]] = field(default_factory=list)  # right ones

    def numbers(self) -> dict[str, Any]:
        accepts, rejects = len(self.accepted), len(self.rejected)
        return {
            "wrong": self.wrong,
            "false_accepts": accepts,
            "false_accept_rate": round(accepts / self.wrong, 5) if self.wrong else None,
            "false_accept_bound": round(upper_bound(accepts, self.wrong), 5),
            "right": self.right,
            "false_rejects": rejects,
            "false_reject_rate": round(rejects / self.right, 5) if self.right else None,
            "false_reject_bound": round(upper_bound(rejects, self.right), 5),
        }


def tallies(cases: Sequence[Any], verdict_of: Judge) -> dict[str, Tally]:
    """One tally a kind, in the order of the kinds' first cases."""
    result: dict[str, Tally] = {}
    for case in cases:
        tally = result.setdefault(case.kind.value, Tally())
        try:
            verdict = verdict_of(case.item(), case.id, case.text, case.mode)
            accepted, evidence = accept(verdict), f"{verdict.status.value}: {verdict.evidence}"
        except DataError as error:  # a profile that has no rule for this gold accepts nothing
            accepted, evidence = False, str(error)
        if case.right:
            tally.right += 1
            if not accepted:
                tally.rejected.append((case, evidence))
        else:
            tally.wrong += 1
            if accepted:
                tally.accepted.append((case, evidence))
    return result


def our_verdict(item: Item, trace_id: str, text: str, mode: PromptMode) -> Verdict:
    return judge(item, trace_id, text, mode, RewardConfig())


def percent(errors: int, n: int) -> str:
    return f"{100 * errors / n:.2f} % (≤ {100 * upper_bound(errors, n):.2f} %)" if n else "no case"


def table(ours: dict[str, Tally], theirs: dict[str, Tally]) -> str:
    """A Markdown table: rate and, in brackets, its upper bound."""
    lines = [
        "| kind | wrong answers | accepted | MedEvalKit accepts | right answers | rejected | MedEvalKit rejects |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, tally in ours.items():
        peer = theirs[kind]
        lines.append(
            f"| {kind} | {tally.wrong:,} | {percent(len(tally.accepted), tally.wrong)} "
            f"| {percent(len(peer.accepted), peer.wrong)} | {tally.right:,} "
            f"| {percent(len(tally.rejected), tally.right)} | {percent(len(peer.rejected), peer.right)} |"
        )
    return "\n".join(lines)


def section(tables: dict[str, str], peer_label: str, digest: str) -> str:
    """The section of the documentation, with its heading."""
    return "\n".join(
        [
            BEGIN,
            "",
            "## How often they err",
            "",
            f"Measured by `python benchmarks/verifier_rates.py --write` with rules version {VERIFIER_VERSION} on",
            f"the test kit (`tests/kit`, SHA-256 `{digest[:16]}…`). A false accept is a wrong answer that counts as",
            "right, a false reject a right one that does not; in brackets the exact one-sided 95 % upper bound",
            f"(Clopper–Pearson). Beside ours `{peer_label}`: MedEvalKit's rules on the same answers, without its LLM",
            "judge. It has none for numbers and boxes and takes them for open answers, which it wants word for word.",
            "",
            "`tests/kit/unseen` was written without sight of the rules, after they had been mended on the kit; what",
            "they did when they met it stands above. Of its failures only that class was mended, and none of its",
            "false accepts; this is what they do now, and nearest to what to expect of new answers:",
            "",
            tables[UNSEEN],
            "",
            "The kit itself, on which rules are mended wherever it finds them wrong: a check that what was learnt is",
            "kept, and no estimate. All its cases:",
            "",
            tables["all"],
            "",
            "Of these the third that was written without sight of the rules:",
            "",
            tables[BLIND],
            "",
            END,
        ]
    )


def write_section(text: str) -> None:
    """Replace what stands between the markers; the first write comes behind the opening one."""
    if not DOCUMENT.is_file() or BEGIN not in DOCUMENT.read_text(encoding="utf-8"):
        raise SystemExit(f"{DOCUMENT.relative_to(ROOT)} has no line {BEGIN}: add it where the tables belong")
    before, _, after = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, rest = after.partition(END)
    DOCUMENT.write_text(before + text + (rest if ended else after), encoding="utf-8")


def list_failures(ours: dict[str, Tally]) -> None:
    for tally in ours.values():
        for failures, wanted in ((tally.accepted, "must not be accepted"), (tally.rejected, "must be accepted")):
            for case, evidence in failures:
                shown = case.text[-SHOWN_CHARACTERS:]
                print(f"{case.id} {wanted} ({case.note}): {case.question} gold {case.answer!r}, said …{shown!r}")
                print(f"    {evidence[: 2 * SHOWN_CHARACTERS]}")


def main() -> None:
    """Judge the kit twice, print the tables and the result line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failures", action="store_true", help="list the cases that our rules get wrong")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/verifiers.md")
    arguments = parser.parse_args()
    kit = kit_module()
    cases = kit.load_cases()
    peer = find_profile("medevalkit")
    ours, theirs = tallies(cases, our_verdict), tallies(cases, peer.score)
    blind = [case for case in cases if case.source == BLIND]
    blind_ours, blind_theirs = tallies(blind, our_verdict), tallies(blind, peer.score)
    unseen = kit.load_cases(kit.KIT / UNSEEN)
    unseen_ours, unseen_theirs = tallies(unseen, our_verdict), tallies(unseen, peer.score)
    tables = {
        "all": table(ours, theirs),
        BLIND: table(blind_ours, blind_theirs),
        UNSEEN: table(unseen_ours, unseen_theirs),
    }
    if arguments.failures:
        list_failures(ours)
    for name, text in tables.items():
        print(f"\n{name}:\n{text}")
    if arguments.write:
        whole = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(kit.KIT.rglob("*.jsonl"))))
        write_section(section(tables, peer.label, whole.hexdigest()))
    accept_rates = [len(tally.accepted) / tally.wrong for tally in ours.values()]
    reject_rates = [len(tally.rejected) / tally.right for tally in ours.values()]
    meets = max(accept_rates) <= GOAL_ACCEPTS and max(reject_rates) <= GOAL_REJECTS
    details = {
        "goal_false_accept_rate": GOAL_ACCEPTS,
        "goal_false_reject_rate": GOAL_REJECTS,
        "ours": {kind: tally.numbers() for kind, tally in ours.items()},
        "ours_blind": {kind: tally.numbers() for kind, tally in blind_ours.items()},
        "ours_unseen": {kind: tally.numbers() for kind, tally in unseen_ours.items()},
        "medevalkit_unseen": {kind: tally.numbers() for kind, tally in unseen_theirs.items()},
        "medevalkit": {kind: tally.numbers() for kind, tally in theirs.items()},
    }
    value = round(max(accept_rates), 5)
    report("verifier_rates", value, "highest false-accept rate of a kind", GOAL_ACCEPTS, meets, details)


if __name__ == "__main__":
    main()
