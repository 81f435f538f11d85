"""`residency keys add|list|revoke`: who may ask a served model. Only digests are kept; a key is shown once."""

from pathlib import Path
from typing import Annotated

import typer

from residency.platform.serving.key_ring import add_key, read_keys, revoke_key

keys_app = typer.Typer(help="API keys of a served model; running servers follow the file.", no_args_is_help=True)
FileOption = Annotated[Path, typer.Option("--file", help="The key file, that `residency serve --keys` is given.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Who it is: stands in the audit log.")]
DEFAULT = Path("runs/serving/keys.json")


@keys_app.command("add")
def add_command(
    key_id: IdArgument,
    file: FileOption = DEFAULT,
    requests: Annotated[int | None, typer.Option(min=1, help="Requests a minute, at each replica.")] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Prompt and answer tokens a minute, at each replica.")
    ] = None,
) -> None:
    """Make a key and print it, the only time."""
    typer.echo(add_key(file, key_id, requests, tokens))


@keys_app.command("list")
def list_command(file: FileOption = DEFAULT) -> None:
    """Say which keys there are, and which count."""
    for key in read_keys(file):
        limits = [
            f"{limit} {what} a minute"
            for limit, what in ((key.requests_per_minute, "requests"), (key.tokens_per_minute, "tokens"))
            if limit is not None
        ]
        state = f"revoked {key.revoked}" if key.revoked else "counts"
        line = f"{key.id:<24}{state}, made {key.created}" + "".join(f", {limit}" for limit in limits)
        typer.echo(line)


@keys_app.command("revoke")
def revoke_command(key_id: IdArgument, file: FileOption = DEFAULT) -> None:
    """From now on the key is refused."""
    revoke_key(file, key_id)
    typer.echo(f"{key_id} is revoked")
