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
from residency.platform.run_folder import RunFolder


def retry_command(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    prefix: Annotated[str, typer.Option("--prefix", help="Only keys that begin so, for example rl-3/.")] = "",
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Retry those of synthesis in a new run: this one was trained on without them."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the requests that failed for good, and take them up again: the next start of the run asks them.

    Where synthesis was finished without them it is opened again; where the run was trained on its mixture already, a
    new run is needed (--into), which goes on from this one's data, checkpoints and answers.
    """
    from residency.platform.cli.branching import SYNTHESIS_KEYS, branch_run
    from residency.platform.cli.remixing import sft_has_begun
    from residency.platform.journal.journal import Journal
    from residency.platform.journal.reader import read_state
    from residency.platform.journal.state import Stage
    from residency.platform.work_queue import WorkQueue

    folder = RunFolder(run)
    if not any((run / "journal").glob("segment-*.log")):
        raise BadInputError(f"{run} has no journal", "the folder of a run that was started", "give the run's folder")
    failed = [key for key, now in read_state(run / "journal").keys.items() if now.stage is Stage.FAILED]
    of_synthesis = [key for key in failed if key.startswith(SYNTHESIS_KEYS) and key.startswith(prefix)]
    if into is not None:
        folder = branch_run(folder, into, "warm_up", with_requests=True)
    elif of_synthesis and "synthesize" in folder.finished_stages() and sft_has_begun(folder):
        raise BadInputError(
            f"{run} was trained on its mixture without {len(of_synthesis)} requests that failed for good (the first:"
            f" {of_synthesis[0]})",
            "a run that can still take them in",
            f"`residency retry {run} --into NEW_RUN`, then start NEW_RUN with the same recipe: it asks only these",
        )
    with Journal.open(folder.path / "journal") as journal:  # refused while another driver is on the run
        queue = WorkQueue(journal)
        letters = queue.dead_letters(prefix)
        if not as_json:
            for letter in letters:
                times = f"{letter.tries} tries" if letter.tries != 1 else "1 try"
                console.print(f"[bold]{escape(letter.key)}[/] {times}: {escape(letter.cause)}", highlight=False)
        taken = asyncio.run(queue.take_up(letter.key for letter in letters))
    reopened = bool(of_synthesis) and "synthesize" in folder.finished_stages()
    if reopened:
        folder.reopen_stage("synthesize")
    if as_json:
        print_json(
            {
                "run": str(folder.path),
                "prefix": prefix,
                "taken_up": [asdict(letter) for letter in letters],
                "reopened": ["synthesize"] if reopened else [],
            }
        )
    elif taken:
        again = "; synthesis is open again" if reopened else ""
        how = f"start the run again with --run {folder.path}"
        console.print(f"[green]ok[/] {len(taken)} wait again{again}: {how}", highlight=False)
    else:
        console.print("no dead letters", highlight=False)
