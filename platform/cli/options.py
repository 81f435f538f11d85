"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RecipeArgument = Annotated[str, typer.Argument(help="A recipe's YAML file, or the name of a shipped one.")]
RunOption = Annotated[Path | None, typer.Option("--run", help="The run's folder; by default runs/<recipe>.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="A profile's YAML file, or the name of a shipped one.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Overrides one key: --set rl.steps=10.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
