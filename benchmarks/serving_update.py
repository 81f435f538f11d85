"""What is on call changes under load, in a running `residency serve REGISTRY`: forwards by a new version, back by
`residency rollback`, again and again, while users ask without a pause.

Two tiny models of one layout that answer every question differently take turns, so that an answer of a mixture would be
one that neither gives. A request that is not answered with 200 has failed. A rollback takes from the start of the
command to the last answer by the version that it takes back, whoever gave it.

    python benchmarks/serving_update.py [--rounds 5] [--users 8]
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import httpx
from reporting import report

MODEL, KEY = "resident", "res-benchmark"
QUESTIONS = [f"which side is the lesion on? {number}" for number in range(6)]
GOAL_SECONDS = 5.0
DEADLINE_SECONDS = 300.0
PAUSE_SECONDS = 2.0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def build_models(folder: Path) -> tuple[Path, Path]:
    """Two folders of one layout: the tiny student, and one with every tensor a little away from it."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    from residency.training.student import build_student

    one, other = build_student(folder / "one", QUESTIONS, seed=0), folder / "other"
    shutil.copytree(one, other)
    generator = torch.Generator().manual_seed(1)
    weights = load_file(one / "model.safetensors")
    moved = {name: w + 0.05 * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    save_file(moved, other / "model.safetensors", metadata={"format": "pt"})
    return one, other


def promote(registry: Any, model: Path) -> str:
    """The model's weights become a new stable version; the gate is not what is measured here."""
    from residency.platform.registry.changes import Act, add_stable
    from residency.platform.registry.versions import State, Version

    act = Act(who="benchmark", when=time.time(), reason="a turn")
    with registry.incoming(model) as incoming:
        after = registry.add(
            incoming,
            lambda register, identity: add_stable(
                register,
                Version(id=identity, state=State.RETIRED, model=incoming.model, run="-", checkpoint=model.name,
                        who=act.who, when=act.when, reason=act.reason),
                act,
            ),
            registry.read().stable,
        )  # fmt: skip
    return after.stable


class Users:
    """Ask without a pause; every answer is kept with its end, its version and its text."""

    def __init__(self, url: str) -> None:
        self.url, self._stop, self._lock = url, threading.Event(), threading.Lock()
        self.answers: list[tuple[float, str, int, str]] = []  # end, version, question, text
        self.failures: list[str] = []

    def ask(self, http: httpx.Client, question: int) -> str:
        """The version that answered; empty where none did."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTIONS[question]}], "max_tokens": 16,
                "temperature": 0, "ignore_eos": True}  # fmt: skip
        try:
            reply = http.post("/chat/completions", json=body)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return ""
        if reply.status_code != 200:
            self.failures.append(f"{reply.status_code} {reply.text[:200]}")
            return ""
        document = reply.json()
        version, text = document["residency"]["version"], document["choices"][0]["message"]["content"]
        with self._lock:
            self.answers.append((time.monotonic(), version, question, text))
        return version

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120)

    def run(self, number: int) -> None:
        with self.client() as http:
            while not self._stop.is_set():
                self.ask(http, number % len(QUESTIONS))
                number += 1

    def stop(self) -> None:
        self._stop.set()

    def wait_for(self, version: str) -> None:
        """Until an answer by the version has come."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self.answers or self.answers[-1][1] != version:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer by {version}; failures: {self.failures[:3]}")
            time.sleep(0.02)

    def last_of(self, version: str) -> float:
        return max(end for end, by, _, _ in self.answers if by == version)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "residency.platform.cli.app", *arguments]


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url.removesuffix("/v1") + "/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until_ready(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_ready(url):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not come: {log.read_text()[-2000:]}")
        time.sleep(0.3)


def end(server: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C does; whatever is left of it after a minute is killed."""
    server.send_signal(signal.SIGINT)
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        say("the server did not end by itself")
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)


def measure(rounds: int, num_users: int, folder: Path) -> dict[str, Any]:
    """Rounds of a new version and its rollback under load."""
    from residency.platform.registry.registry import Registry

    one, other = build_models(folder)
    registry = Registry(folder / MODEL)
    promote(registry, one)
    port, log = free_port(), folder / "server.log"
    users = Users(f"http://127.0.0.1:{port}/v1")
    environment = dict(os.environ, RESIDENCY_API_KEY=KEY)
    with log.open("w") as out, ThreadPoolExecutor(num_users) as pool:
        server = subprocess.Popen(
            command("serve", str(registry.path), "--port", str(port), "--data", str(folder / "serving")),
            stdout=out, stderr=out, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until_ready(users.url, server, log)
            going = [pool.submit(users.run, number) for number in range(num_users)]
            users.wait_for("v1")
            forwards, back, commands = [], [], []
            for _ in range(rounds):
                time.sleep(PAUSE_SECONDS)
                began = time.monotonic()
                version = promote(registry, other)
                users.wait_for(version)
                time.sleep(PAUSE_SECONDS)
                forwards.append(users.last_of("v1") - began)
                began = time.monotonic()
                subprocess.run(command("rollback", "--registry", str(registry.path)), check=True, capture_output=True,
                               timeout=120)  # fmt: skip
                commands.append(time.monotonic() - began)
                users.wait_for("v1")
                time.sleep(PAUSE_SECONDS)
                back.append(users.last_of(version) - began)
                say(f"forwards {forwards[-1]:.2f} s, back {back[-1]:.2f} s (the command alone {commands[-1]:.2f} s)")
            users.stop()
            for one_user in going:
                one_user.result(DEADLINE_SECONDS)
        finally:
            users.stop()
            end(server)
    texts = {kind: {q: set[str]() for q in range(len(QUESTIONS))} for kind in ("one", "other")}
    for _, version, question, text in users.answers:
        texts["one" if version == "v1" else "other"][question].add(text)
    return {
        "requests": len(users.answers) + len(users.failures),
        "failed": len(users.failures),
        "first_failures": users.failures[:3],
        "texts_a_question_and_version": max(len(each) for by in texts.values() for each in by.values()),
        "questions_answered_alike": sum(bool(texts["one"][q] & texts["other"][q]) for q in range(len(QUESTIONS))),
        "updates": 2 * rounds,
        "forwards_seconds": [round(seconds, 3) for seconds in forwards],
        "rollback_seconds": [round(seconds, 3) for seconds in back],
        "rollback_command_seconds": [round(seconds, 3) for seconds in commands],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="residency-update-", ignore_cleanup_errors=True) as folder:
        details = measure(arguments.rounds, arguments.users, Path(folder))
    say(json.dumps(details, indent=1))
    slowest = max(details["rollback_seconds"])
    whole = details["texts_a_question_and_version"] == 1 and details["questions_answered_alike"] == 0
    meets = details["failed"] == 0 and whole and slowest <= GOAL_SECONDS
    report("serving_update", slowest, "seconds of the slowest rollback", GOAL_SECONDS, meets, details)


if __name__ == "__main__":
    main()
