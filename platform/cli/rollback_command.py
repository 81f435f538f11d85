"""`residency rollback --registry DIR`: the last step back, at once."""

from typing import Annotated

import typer
from rich.markup import escape

from residency.platform.cli.options import JsonOption
from residency.platform.cli.promote_command import RegistryOption, WhoOption, act_of
from residency.platform.cli.screen import console, print_json
from residency.platform.registry.changes import roll_back
from residency.platform.registry.registry import Registry


def rollback_command(
    registry: RegistryOption,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history.")] = "",
    who: WhoOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the canary back; where there is none, the stable version before is stable again. Servers follow."""
    versions = Registry(registry)
    versions.read_existing()
    after = versions.change(lambda register: roll_back(register, act_of(who, reason)))
    stable = after.stable_version()
    if as_json:
        print_json({"stable": stable.id, "canary": None, "sequence": after.sequence})
    console.print(f"[green]stable[/] {escape(stable.label)}", highlight=False)
