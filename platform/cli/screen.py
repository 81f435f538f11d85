"""What one sees: Rich progress with rates and time left, tables, and errors in one clear sentence."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

console = Console(stderr=True)  # standard output stays free for --json
PLAIN_SECONDS = 15.0  # between lines where the output is no terminal


class RateColumn(ProgressColumn):
    """Units a second since the stage began."""

    def render(self, task: Any) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} {task.fields.get('unit', '')}/s" if speed else "")


class Screen:
    """Progress of a run's stages; on a plain stream a line every few seconds in its place."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            RateColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )

    def say(self, text: str) -> None:
        self.console.print(text)

    def tell_trouble(self, kind: str, details: Mapping[str, Any]) -> None:
        """One line for an event that a user should know of at once; all others are only in the run's events."""
        who, cause = details.get("worker") or details.get("generator") or details.get("role"), details.get("cause")
        match kind:
            case "worker_lost":
                line = f"{who} was lost: {cause} ({details.get('requests_rerouted', 0)} requests go elsewhere)"
            case "request_refused" | "pool_stopped" | "joined_from_checkpoint":
                line = f"{kind.replace('_', ' ')}, {who}: {cause}"
            case "questions_refused":
                line = (
                    f"{details.get('board')}, {details.get('sitting')}: {details.get('refused')} of {details.get('of')}"
                    f" questions were refused and count as errors, not as wrong: {cause}"
                )
            case "learner_restarted":
                line = f"the learner group was lost and starts again from step {details.get('step')}: {cause}"
            case "learner_ranks_changed":
                line = (
                    f"the learner group goes on with {details.get('ranks')} of {details.get('wanted')} ranks: {cause}"
                )
            case "node_draining":
                line = f"node {str(details.get('node'))[:8]} is being drained: who is on it leaves"
            case "stop_asked":
                line = f"told to stop by {cause}: at the next step boundary, within {details.get('grace_seconds')} s"
            case "checkpoint_damaged":
                line = f"checkpoint {details.get('checkpoint')} is damaged and passed over: {cause}"
            case "generator_dropped":
                line = f"{who} was dropped in a weight update ({details.get('phase')}): {cause}"
            case "placement_waiting":
                line = f"{who} waits for a place: wants {details.get('wants')}, {details.get('has')}"
            case _:
                return
        self.console.print(f"[yellow]![/] {escape(line)}", highlight=False)

    @contextmanager
    def live(self) -> Iterator[None]:
        with self._progress:
            yield

    @contextmanager
    def steps(self, description: str, total: int, unit: str) -> Iterator["Steps"]:
        task = self._progress.add_task(description, total=total, unit=unit, note="")
        counter = Steps(self, self._progress, task, description, total, unit)
        try:
            yield counter
        finally:
            counter.close()

    @property
    def plain(self) -> bool:
        return not self.console.is_terminal


class Steps:
    """One stage's counter."""

    def __init__(
        self, screen: Screen, progress: Progress, task: TaskID, description: str, total: int, unit: str
    ) -> None:
        self._screen, self._progress, self._task = screen, progress, task
        self._description, self._total, self._unit = description, total, unit
        self._done, self._began, self._said, self._note = 0, time.monotonic(), time.monotonic(), ""
        self._worked = 0  # units since the counter began, those that were done twice among them

    def stand_at(self, done: int) -> None:
        """So many are done by now, whoever did them: where a stage goes on, or goes back to do some again."""
        self._done = done
        self._progress.reset(self._task, completed=done)

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self._done += count
        self._worked += count
        self._note = note if note is not None else self._note
        self._progress.update(self._task, advance=count, note=self._note)
        if self._screen.plain and time.monotonic() - self._said > PLAIN_SECONDS:
            self._said = time.monotonic()
            self._line()

    def _line(self) -> None:
        seconds = time.monotonic() - self._began
        rate = self._worked / seconds if seconds > 0 else 0.0
        left = (self._total - self._done) / rate if rate else 0.0
        self._screen.say(
            f"  {self._description}: {self._done}/{self._total} {self._unit},"
            f" {rate:,.1f} {self._unit}/s, {max(left, 0):.0f} s left {self._note}"
        )

    def close(self) -> None:
        self._progress.update(self._task, total=max(self._done, 1), completed=max(self._done, 1))
        if self._screen.plain:
            seconds = time.monotonic() - self._began
            work = "" if self._worked == self._done else f", {self._worked} carried out"
            self._screen.say(f"  {self._description}: {self._done} {self._unit}{work} in {seconds:.0f} s {self._note}")


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def pooled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows over all seeds where there are several; the report shows each seed's own."""
    return [row for row in rows if row["seed"] is None] or rows


def narrow_table(title: str, first: str, others: tuple[str, ...]) -> Table:
    """A table that a terminal of 80 columns shows whole: the first column is text, the others numbers."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def evaluation_tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One table a dataset: accuracy with n, interval, majority and chance, and what the other profiles give it."""
    shown = pooled(rows)
    if not shown:
        return []
    leading = shown[0]["profile"]
    others = sorted({row["profile"] for row in shown} - {leading})
    by_sitting = {(sitting_of(row), row["profile"]): row for row in shown}
    tables = []
    for dataset in dict.fromkeys(row["dataset"] for row in shown):
        own = [row for row in shown if row["profile"] == leading and row["dataset"] == dataset]
        majority, chance = percent(own[0]["majority"]), percent(own[0]["chance"])
        table = narrow_table(
            f"{dataset}: held-out accuracy in percent by profile {leading}\n(always the commonest answer {majority},"
            f" chance {chance})",
            "checkpoint",
            ("n", "acc.", "95 % int.", "abst.", "err.", *others),
        )
        for row in own:
            low, high = row["ci95"]
            image = "" if row["image"] == "true" else f" @{row['image']}"
            direct = "direct " if row["prompt_mode"] == "direct" else ""
            beside = [by_sitting.get((sitting_of(row), other)) for other in others]
            table.add_row(
                f"{row['checkpoint']} {direct}{row['decoding']}{image}", str(row["n"]), percent(row["accuracy"]),
                f"{percent(low)}–{percent(high)}", str(row["abstained"]), str(row["errors"]),
                *(percent(other["accuracy"] if other else None) for other in beside),
            )  # fmt: skip
        tables.append(table)
    return tables


def sitting_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("checkpoint", "dataset", "seed", "prompt_mode", "decoding", "image"))


def comparison_table(rows: list[dict[str, Any]]) -> Table:
    """Paired differences in percentage points with their intervals."""
    table = narrow_table(
        "Paired differences (percentage points)",
        "a − b",
        ("questions", "clusters", "difference", "95 % interval"),
    )
    several = len({row["dataset"] for row in rows}) > 1
    for row in pooled(rows):
        low, high = row["ci95"]
        table.add_row(
            compared(row, several), str(row["questions"]), str(row["clusters"]),
            f"{100 * row['difference']:+.1f}", f"{100 * low:+.1f} … {100 * high:+.1f}",
        )  # fmt: skip
    return table


def compared(row: dict[str, Any], several_datasets: bool) -> str:
    """``rl − sft, sampled``, with what is not as usual: direct answers, another dataset."""
    direct = "direct " if row["prompt_mode"] == "direct" else ""
    dataset = f", {row['dataset']}" if several_datasets else ""
    return f"{row['a']} − {row['b']}, {direct}{row['decoding']}{dataset}"
