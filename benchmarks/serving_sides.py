"""The two servers that are compared, on the same tiny model with the same engine settings: `residency serve` as it
comes, and plain `vllm serve`, told to log nothing, as ours."""

import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from serving_processes import ProcessTree, running, wait_for

KEY = "benchmark-key"
NAME = "model"  # of the folder, which is what `residency serve FOLDER` calls it
MODEL_LEN = 1024
START_SECONDS = 400.0
BIN = Path(sys.executable).parent
TEXTS = (
    "which side is the lesion on?\nChoose from: left, right.\n"
    "Think inside <think> </think>, then answer inside <answer> </answer>.",
    "<think>the lesion is on the left of the picture.</think><answer>left</answer>",
)
# what our replica sets for the engine's process, for the other as well
ENGINE_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}
# of our engine's settings, what belongs to promotion and to the door: plain vLLM goes without
OURS = {"model", "served_model_name", "logits_processors", "allowed_media_domains", "worker_extension_cls",
        "weight_transfer_config", "trust_remote_code"}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A running server: where (without ``/v1``), how to ask it, and its processes."""

    url: str
    model: str
    key: str
    tree: ProcessTree


def build_model(folder: Path) -> Path:
    """The tiny student that both serve."""
    from residency.training.student import build_student

    return build_student(folder / NAME, TEXTS, seed=0)


def write_profile(folder: Path, replicas: int, threads: int) -> Path:
    """The laptop's profile with so many replicas."""
    from residency.platform.profiles import load_profile
    from residency.platform.shipped import find

    laptop = load_profile(find("profiles", "laptop"))
    server = laptop.server.model_copy(update={"actors": replicas, "threads": threads})
    path = folder / f"{replicas}-replicas.yaml"
    path.write_text(yaml.safe_dump(laptop.model_copy(update={"server": server}).model_dump(mode="json")))
    return path


@contextmanager
def our_server(folder: Path, model: Path, replicas: int = 1, threads: int = 2) -> Iterator[Side]:
    """`residency serve`, with a key, uploads and the audit log, as anybody would start it."""
    port = free_port()
    command = [str(BIN / "residency"), "serve", str(model), "--port", str(port), "--api-key", KEY]
    command += ["--profile", str(write_profile(folder, replicas, threads)), "--data", str(folder / "serving")]
    command += ["--max-model-len", str(MODEL_LEN)]
    yield from _served(command, folder / "ours.log", port, {"OMP_NUM_THREADS": str(threads)})


@contextmanager
def plain_server(folder: Path, model: Path, threads: int = 2) -> Iterator[Side]:
    """`vllm serve`, by its module: the command asks for metadata of a package ``vllm``, which the CPU's is not."""
    from residency.actors.serving.engine_settings import ServerConfig
    from residency.platform.serving.door_config import DoorConfig

    config = ServerConfig(door=DoorConfig(key_digest="0" * 64), max_model_len=MODEL_LEN)
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", NAME, "--api-key", KEY]
    command += ["--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"]
    for name, value in config.engine_arguments(model, NAME, None).items():
        if name not in OURS:
            command += _flag(name, value)
    environment = ENGINE_ENVIRONMENT | {"OMP_NUM_THREADS": str(threads)}
    yield from _served(command, folder / "plain.log", port, environment)


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]


def _served(command: list[str], log: Path, port: int, environment: dict[str, str]) -> Iterator[Side]:
    url = f"http://127.0.0.1:{port}"
    with running(command, log, environment) as tree:
        wait_for(tree, lambda: models_of(url) is not None, log, START_SECONDS)
        (name, *_) = models_of(url) or [NAME]
        yield Side(url, name, KEY, tree)


def models_of(url: str) -> list[str] | None:
    """What the server at the address serves; None where it does not answer yet."""
    request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return [model["id"] for model in json.load(answer)["data"]]
    except (OSError, urllib.error.HTTPError, ValueError):
        return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
