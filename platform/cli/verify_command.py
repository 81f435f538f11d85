"""`residency verify DATASET`: gold answers must score 1, corrupted ones 0."""

from pathlib import Path
from typing import Annotated

import typer

from residency.platform.cli.options import JsonOption
from residency.platform.cli.screen import console, print_json
from residency.platform.errors import DataError


def verify_command(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder.")], as_json: JsonOption = False
) -> None:
    """Check that the verifiers can be trusted on this dataset's own answers."""
    from residency.platform.dataset_folder import read_dataset
    from residency.platform.verifiers.self_check import self_check

    items = read_dataset(dataset).items
    findings = self_check(items)
    if as_json:
        print_json({"items": len(items), "findings": [str(finding) for finding in findings]})
    else:
        for finding in findings:
            console.print(str(finding), highlight=False)
    if findings:
        raise DataError(f"{len(findings)} of {len(items)} items are judged wrongly", "none", "see the lines above")
    if not as_json:
        console.print(f"[green]ok[/] {len(items)} gold answers score 1, and their corruptions 0", highlight=False)
