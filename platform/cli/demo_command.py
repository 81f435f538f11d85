"""`residency demo`: the whole loop on the starter data, a served answer, and a report."""

import time
from pathlib import Path

from residency.platform.cli.options import JsonOption, ProfileOption, RunOption
from residency.platform.cli.run_command import execute, prepare
from residency.platform.cli.screen import Screen
from residency.platform.run_folder import RunFolder


def move_aside(run: Path) -> Path | None:
    """A finished demo is moved to the next free ``<run>-1``, ``-2``, …; an unfinished one stays, to be gone on with."""
    if "demo" not in RunFolder(run).finished_stages():
        return None
    number = 1
    while (aside := run.with_name(f"{run.name}-{number}")).exists():
        number += 1
    run.rename(aside)
    return aside


def demo_command(run: RunOption = None, profile: ProfileOption = "laptop", as_json: JsonOption = False) -> None:
    """Teach a tiny Qwen2.5-VL on this machine: synthesize, SFT, RL, evaluate, serve. Minutes, no download."""
    from residency.platform.cli.serve_command import ask_once
    from residency.platform.report.report import write_report

    began = time.monotonic()
    target = run or Path("runs/demo")
    screen = Screen()
    aside = move_aside(target)
    if aside is not None:
        screen.say(f"the finished demo was moved to {aside}")
    recipe, on, folder = prepare("starter", profile, target, None)
    execute(recipe, on, folder, "evaluate", as_json, screen)
    ask_once(folder, recipe, on, screen)
    write_report(folder.path)  # once more: now with the served answer
    folder.finish_stage("demo", time.monotonic() - began)
    screen.say(f"the whole demo took {(time.monotonic() - began) / 60:.1f} minutes")
