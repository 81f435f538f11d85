"""The command line: one file a command; exit 0 done, 1 failed, 2 bad input."""

import sys

import typer
from rich.markup import escape

from residency.platform.cli.ablate_command import ablate_command
from residency.platform.cli.check_command import check_command
from residency.platform.cli.compare_command import compare_command
from residency.platform.cli.demo_command import demo_command
from residency.platform.cli.export_command import export_command
from residency.platform.cli.import_command import import_command
from residency.platform.cli.keys_command import keys_app
from residency.platform.cli.promote_command import promote_command
from residency.platform.cli.replay_command import replay_command
from residency.platform.cli.retry_command import retry_command
from residency.platform.cli.review_command import review_app
from residency.platform.cli.rollback_command import rollback_command
from residency.platform.cli.run_command import (
    evaluate_command,
    rl_command,
    run_command,
    sft_command,
    synthesize_command,
)
from residency.platform.cli.screen import console
from residency.platform.cli.serve_command import serve_command
from residency.platform.cli.submit_command import submit_command
from residency.platform.cli.trace_command import trace_command
from residency.platform.cli.verify_command import verify_command
from residency.platform.cluster import prepare_environment
from residency.platform.errors import ResidencyError, StoppedError

app = typer.Typer(
    name="residency",
    help="Multimodal medical models do their residency: synthesize, fine-tune, reinforce, evaluate, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo_command)
app.command("run")(run_command)
app.command("check")(check_command)
app.command("import")(import_command)
app.command("export")(export_command)
app.command("verify")(verify_command)
app.command("synthesize")(synthesize_command)
app.command("sft")(sft_command)
app.command("rl")(rl_command)
app.command("evaluate")(evaluate_command)
app.command("compare")(compare_command)
app.command("replay")(replay_command)
app.command("retry")(retry_command)
app.command("trace")(trace_command)
app.add_typer(review_app, name="review")
app.command("ablate")(ablate_command)
app.command("serve")(serve_command)
app.command("promote")(promote_command)
app.command("rollback")(rollback_command)
app.add_typer(keys_app, name="keys")
app.command("submit")(submit_command)


def main() -> None:
    """Entry point: our own errors become one clear sentence and their exit code; usage errors are Typer's, exit 2."""
    prepare_environment()
    try:
        app()
    except ResidencyError as error:
        word = "[yellow]stopped[/]" if isinstance(error, StoppedError) else "[bold red]error[/]"
        console.print(f"{word} {escape(str(error))}", highlight=False)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
