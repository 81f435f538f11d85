"""`residency retry RUN`: the dead letters of a run wait again."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from residency.platform.cli.options import JsonOption
from residency.platform.cli.screen import console, print_json
from residency.platform.errors import BadInputError


def retry_command(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    prefix: Annotated[str, typer.Option("--prefix", help="Only keys that begin so, for example rl-3/.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the requests that failed for good, and take them up again: the next start of the run asks them."""
    from residency.platform.journal.journal import Journal
    from residency.platform.work_queue import WorkQueue

    folder = run / "journal"
    if not any(folder.glob("segment-*.log")):
        raise BadInputError(f"{run} has no journal", "the folder of a run that was started", "give the run's folder")
    with Journal.open(folder) as journal:  # refused while another driver is on the run
        queue = WorkQueue(journal)
        letters = queue.dead_letters(prefix)
        if not as_json:
            for letter in letters:
                times = f"{letter.tries} tries" if letter.tries != 1 else "1 try"
                console.print(f"[bold]{escape(letter.key)}[/] {times}: {escape(letter.cause)}", highlight=False)
        taken = asyncio.run(queue.take_up(letter.key for letter in letters))
    if as_json:
        print_json({"run": str(run), "prefix": prefix, "taken_up": [asdict(letter) for letter in letters]})
    elif taken:
        console.print(f"[green]ok[/] {len(taken)} wait again: start the run again with --run {run}", highlight=False)
    else:
        console.print("no dead letters", highlight=False)
