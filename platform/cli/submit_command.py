"""`residency submit RECIPE --address URL`: a run as a Ray Job on a cluster that is there."""

import asyncio
import sys
from typing import Annotated

import typer
from rich.markup import escape

from residency.platform.cli.check_command import report_findings
from residency.platform.cli.options import ProfileOption, RecipeArgument, SetOption
from residency.platform.cli.screen import Screen
from residency.platform.job_package import on_cluster
from residency.platform.preflight import check
from residency.platform.profiles import load_profile
from residency.platform.recipe_file import load_recipe
from residency.platform.shipped import find

INTERRUPTED = 130


def submit_command(
    recipe: RecipeArgument,
    address: Annotated[str, typer.Option(help="The cluster's dashboard: http://HOST:8265.")],
    run: Annotated[
        str | None,
        typer.Option(help="The run's name below $RESIDENCY_RUNS of the cluster, or a folder there; the recipe's name."),
    ] = None,
    profile: ProfileOption = "cluster",
    overrides: SetOption = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job.")] = False,
) -> None:
    """Carry out a recipe as a Ray Job and follow it. The same command with the same --run goes on where it stopped."""
    from residency.platform.jobs import connect, follow, submit

    loaded = load_recipe(find("recipes", recipe), tuple(overrides or ()))
    on = load_profile(find("profiles", profile))
    findings = check(loaded, on.model_copy(update={"cluster_cpus": None}))
    if findings.mistakes:
        report_findings(findings, loaded, as_json=False)
    screen, client = Screen(), connect(address)
    keys = sorted({teacher.key_variable for teacher in loaded.synthesis.teachers if teacher.key_variable})
    if keys:
        screen.say(f"[dim]the cluster's nodes must have in their environment: {', '.join(keys)}[/]")
    job_id = submit(client, loaded, on_cluster(on), run or loaded.name)
    screen.say(f"job [bold]{escape(job_id)}[/] is at work on the run {escape(run or loaded.name)}")
    if no_wait:
        screen.say(escape(f"follow it: ray job logs {job_id} --follow --address {address}"))
        return
    try:
        details = asyncio.run(follow(client, job_id, show))
    except KeyboardInterrupt:
        at = f"{job_id} --address {address}"
        screen.say(escape(f"the job goes on. Follow it: ray job logs --follow {at}   Stop it: ray job stop {at}"))
        raise typer.Exit(INTERRUPTED) from None
    if details.status == "SUCCEEDED":
        screen.say(f"[green]done[/] {escape(job_id)}")
        return
    screen.say(f"[red]{details.status.lower()}[/] {escape(job_id)}: {escape(details.message or '')}")
    screen.say("the same command again goes on where it stopped")
    raise typer.Exit(details.driver_exit_code or 1)


def show(text: str) -> None:
    """A part of the job's log, as it comes."""
    sys.stdout.write(text)
    sys.stdout.flush()
