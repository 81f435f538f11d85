"""`residency serve RUN|MODEL|RECIPE|REGISTRY …`: models on call behind Ray Serve's OpenAI API."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from residency.platform.cli.options import ProfileOption
from residency.platform.cli.screen import Screen
from residency.platform.cli.served_models import best_checkpoint, is_registry, served_state
from residency.platform.profiles import Profile, load_profile
from residency.platform.recipe import Recipe
from residency.platform.registry.registry import Registry
from residency.platform.run_folder import RunFolder
from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.serving_state import ServingState
from residency.platform.shipped import find


def serve_command(
    targets: Annotated[
        list[Path], typer.Argument(metavar="RUN|MODEL|RECIPE|REGISTRY...", help="What to serve; several have a port.")
    ],
    profile: ProfileOption = "laptop",
    port: Annotated[int, typer.Option(help="The port.")] = 8000,
    host: Annotated[str, typer.Option(help="The address; another than loopback only behind TLS.")] = "127.0.0.1",
    api_key: Annotated[
        str | None, typer.Option(envvar="RESIDENCY_API_KEY", help="What callers must send; a new one where absent.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="The file of `residency keys`, in place of one key.")] = None,
    data: Annotated[Path, typer.Option(help="Folder for the audit log, uploaded images and feedback.")] = Path(
        "runs/serving"
    ),
    feedback_days: Annotated[
        int | None, typer.Option(min=1, help="Take feedback, and keep it with what was said (by consent) so long.")
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="A LoRA adapter's folder, on top of one model.")] = None,
    max_model_len: Annotated[int, typer.Option(min=64, help="Prompt and answer (tokens).")] = 1024,
) -> None:
    """Serve models on this machine until Ctrl-C. What a registry has on call is followed while it changes."""
    from residency.actors.serving.following import LOOK_SECONDS, Follower
    from residency.actors.serving.proxy_guard import ENVIRONMENT
    from residency.actors.serving.starting import start_serving
    from residency.platform.cluster import local_cluster
    from residency.platform.serving.key_ring import ONLY_KEY, key_digest, new_api_key, read_keys

    screen, on = Screen(), load_profile(find("profiles", profile))
    states = [with_adapter(served_state(target), adapter) for target in targets]
    key = api_key or new_api_key()
    if keys is not None:
        read_keys(keys)
    door = DoorConfig(
        key_digest=None if keys else key_digest(key),
        keys_file=str(keys.absolute()) if keys else None,
        media_folder=str((data / "media").absolute()),
        audit_folder=str((data / "audit").absolute()),
        feedback_folder=str((data / "feedback").absolute()) if feedback_days else None,
        retention_days=feedback_days or 30,
    )
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's own 15 all else on the machine would go first
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with local_cluster(on, data / "logs"):
        names = ", ".join(state.model for state in states)
        screen.say(f"starting {names} …")
        handle = start_serving(
            states, on, key, port, on.deadline_seconds, host=host, max_model_len=max_model_len, door=door
        )
        shown = f"a key of {keys}" if keys else f"{key} ({ONLY_KEY})"
        screen.say(f"[green]on call[/] {handle.url}  model {names}  key {shown}")
        screen.say("not for medical advice; Ctrl-C ends it")
        registries = [Registry(target) if is_registry(target) else None for target in targets]
        follower = Follower(registries, handle, data / "audit", lambda text: screen.say(escape(text)))
        while not stop.wait(LOOK_SECONDS):
            follower.look()
        handle.close()


def with_adapter(state: ServingState, adapter: Path | None) -> ServingState:
    """The state with a LoRA adapter on its stable version."""
    if adapter is None:
        return state
    version = state.versions[state.stable].model_copy(update={"adapter": str(adapter.absolute())})
    return state.model_copy(update={"versions": {**state.versions, state.stable: version}})


def ask_once(run: RunFolder, recipe: Recipe, profile: Profile, screen: Screen) -> dict[str, Any]:
    """Serve the run's best checkpoint, ask one held-out image question through the OpenAI client, and stop."""
    from residency.actors.serving.starting import single_state, start_serving
    from residency.platform.ask import ask
    from residency.platform.cluster import local_cluster
    from residency.platform.dataset_folder import read_dataset
    from residency.platform.prompts import render_prompt
    from residency.platform.reasoning import split_reasoning
    from residency.platform.records import PromptMode, Split
    from residency.platform.serving.key_ring import new_api_key

    name, folder = best_checkpoint(run)
    data = read_dataset(run.data)
    item = next(item for item in data.split(Split.HELD_OUT) if item.media)
    prompt = render_prompt(item, PromptMode.THINK)
    with local_cluster(profile, run.logs), screen.live(), screen.steps(f"serving {name}", 1, "answers") as steps:
        handle = start_serving([single_state(folder, name)], profile, new_api_key(), 0, profile.deadline_seconds)
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
