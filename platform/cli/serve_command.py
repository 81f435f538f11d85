"""`residency serve RUN|MODEL`: the checkpoint that is best on the tune split, behind Ray Serve's OpenAI API."""

import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from residency.platform.cli.options import ProfileOption
from residency.platform.cli.screen import Screen
from residency.platform.errors import BadInputError
from residency.platform.profiles import Profile, load_profile
from residency.platform.recipe import Recipe
from residency.platform.run_folder import RunFolder
from residency.platform.shipped import find


def best_checkpoint(run: RunFolder) -> tuple[str, Path]:
    """The checkpoint with the higher greedy accuracy on the tune split (RL where they are level, it came later)."""
    summary = run.summary()
    scores: dict[str, float] = {}
    for name, key in (("rl", "tune_accuracy"), ("sft", "best_tune_accuracy")):
        if key in summary.get(name, {}) and (run.checkpoints / name / "config.json").is_file():
            scores[name] = summary[name][key]
    if not scores:
        raise BadInputError(
            f"{run.path} has no checkpoint with a score on the tune split", "a run that finished `sft`", "run it first"
        )
    best = max(scores, key=lambda name: scores[name])
    return best, run.checkpoints / best


def model_of(target: Path) -> tuple[str, Path]:
    """Name and folder of what is to be served: a run's best checkpoint, or a model folder as it is."""
    if (target / "summary.json").is_file():
        seeds = sorted(target.glob("seed-*"))
        name, folder = best_checkpoint(RunFolder(seeds[0] if seeds else target))
        return f"{target.name}-{name}", folder
    if (target / "config.json").is_file():
        return target.name, target
    raise BadInputError(
        f"{target} is neither a run nor a model folder",
        "a folder with summary.json (a run) or config.json (a model)",
        "give the --run of a finished run",
    )


def serve_command(
    target: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="A run's folder or a model's folder.")],
    profile: ProfileOption = "laptop",
    port: Annotated[int, typer.Option(help="The port on loopback.")] = 8000,
    api_key: Annotated[
        str | None, typer.Option(envvar="RESIDENCY_API_KEY", help="What callers must send; a new one where absent.")
    ] = None,
) -> None:
    """Serve a checkpoint on this machine's loopback until Ctrl-C."""
    from residency.actors.serving import new_api_key, start_serving
    from residency.platform.cluster import local_cluster

    screen, on = Screen(), load_profile(find("profiles", profile))
    name, folder = model_of(target)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with local_cluster(on, target / "logs" if (target / "summary.json").is_file() else Path("runs/serve-logs")):
        screen.say(f"starting {name} …")
        handle = start_serving(folder, name, on, api_key or new_api_key(), port, on.deadline_seconds)
        screen.say(f"[green]on call[/] {handle.url}  model {name}  key {handle.api_key}")
        screen.say("not for medical advice; Ctrl-C ends it")
        while not stop.wait(1.0):
            pass
        handle.close()


def ask_once(run: RunFolder, recipe: Recipe, profile: Profile, screen: Screen) -> dict[str, Any]:
    """Serve the run's best checkpoint, ask one held-out image question through the OpenAI client, and stop."""
    from residency.actors.serving import new_api_key, start_serving
    from residency.platform.ask import ask
    from residency.platform.cluster import local_cluster
    from residency.platform.dataset_folder import read_dataset
    from residency.platform.prompts import render_prompt
    from residency.platform.reasoning import split_reasoning
    from residency.platform.records import PromptMode, Split

    name, folder = best_checkpoint(run)
    data = read_dataset(run.data)
    item = next(item for item in data.split(Split.HELD_OUT) if item.media)
    prompt = render_prompt(item, PromptMode.THINK)
    with local_cluster(profile, run.logs), screen.live(), screen.steps(f"serving {name}", 1, "answers") as steps:
        handle = start_serving(folder, name, profile, new_api_key(), 0, profile.deadline_seconds)
        text = ask(
            handle.url, handle.api_key, name, data.media.read_png(item.media[0]), prompt,
            max_tokens=recipe.student.max_new_tokens,
        )  # fmt: skip
        handle.close()
        steps.advance()
    reasoning, answer = split_reasoning(text)
    served = {
        "checkpoint": name,
        "item_id": item.id,
        "question": item.question,
        "reasoning": reasoning,
        "answer": answer,
        "gold": item.answer,
    }
    run.update_summary(served=served)
    screen.say(f"asked:     {escape(item.question)}")
    screen.say(f"reasoning: {escape(reasoning)}")
    screen.say(f"answer:    {escape(answer)}   (the annotation says: {escape(item.answer)})")
    return served
