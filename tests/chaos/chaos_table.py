"""The tables of docs/chaos.md, from the results of ``rl_chaos.py``.

python tests/chaos/chaos_table.py [--results FILE] [--write]     # without --write to standard output
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chaos_plan import FAULTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "chaos.md"
BEGIN, END = "<!-- results: made by tests/chaos/chaos_table.py -->", "<!-- end of results -->"
KINDS = {
    "light": "simulated engines, stand-in for DeepSpeed",
    "deepspeed": "simulated engines, DeepSpeed",
    "vllm": "vLLM, DeepSpeed",
}

Row = dict[str, Any]


def markdown(header: Iterable[str], lines: Iterable[Iterable[object]]) -> str:
    names = list(header)
    rows = [names, ["---"] + ["--:"] * (len(names) - 1), *([str(cell) for cell in line] for line in lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def by_kind(rows: list[Row]) -> str:
    lines = []
    for kind, words in KINDS.items():
        of = [row for row in rows if row["kind"] == kind]
        compared = [row for row in of if row.get("same_state") is not None]
        lines.append(
            (
                words, len(of), sum(row["good"] for row in of),
                sum("struck" in each for row in of for each in row.get("struck", [])),
                sum(row.get("due", 0) for row in of), sum(row.get("lost", 0) for row in of),
                sum(row.get("doubled", 0) for row in of),
                f"{sum(row['same_state'] for row in compared)} of {len(compared)}" if compared else "–",
                f"{sum(row['seconds'] for row in of) / max(len(of), 1):.0f}",
            )
        )  # fmt: skip
    header = ("job", "seeds", "good", "faults", "groups", "lost", "in two steps", "final state the same", "s a seed")
    return markdown(header, lines)


def by_fault(rows: list[Row]) -> str:
    struck, missed, drivers, restarts = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        for each in row.get("struck", []):
            (struck if "struck" in each else missed)[each["fault"]] += 1
            drivers[each["fault"]] += bool(row["ended_by_itself"])
            restarts[each["fault"]] += row.get("learner_restarts", 0) > 0
    lines = [(name, struck[name], missed[name], restarts[name], drivers[name]) for name in FAULTS]
    header = ("fault", "made", "came too late", "seeds with a learner restart", "seeds whose run ended by itself")
    return markdown(header, lines)


def bad_seeds(rows: list[Row]) -> str:
    bad = [row for row in rows if not row["good"]]
    if not bad:
        return "No seed found a fault."
    return "\n".join(
        f"- seed {row['seed']}: {'; '.join([*row['faults'], *row['ended_by_itself']]) or 'another final state'}"[:300]
        for row in bad
    )


def tables(rows: list[Row]) -> str:
    return "\n\n".join((by_kind(rows), by_fault(rows), bad_seeds(rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / ".cache" / "chaos" / "rl.jsonl")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    text = tables([json.loads(line) for line in chosen.results.read_text().splitlines()])
    if not chosen.write:
        print(text)
        return
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
