"""The story of a model on call: v1 is trained and promoted, v2 takes a share of the traffic and is taken back because
it does worse, v3 is promoted under load, and rolled back. Real training, boards, engines, server and commands.

The boards ask about counts of cells; users ask on which side the lesion is. ``v1`` learns both. ``v2`` is trained on
from it on answers without tags to the users' questions, which no board asks: what the gate cannot see, the watch must.
``v3`` is ``v1`` trained on.
"""

import asyncio
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import typer
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForImageTextToText, AutoProcessor
from typer.testing import CliRunner

from residency.actors.serving.following import LOOK_SECONDS, Follower
from residency.platform.cli.crew import Crew
from residency.platform.cli.promote_command import promote_command
from residency.platform.cli.rollback_command import rollback_command
from residency.platform.cli.screen import Screen
from residency.platform.cli.stages.evaluate_stage import evaluate_stage
from residency.platform.dataset_folder import DatasetCard, write_dataset
from residency.platform.journal.journal import Journal
from residency.platform.profiles import Profile
from residency.platform.prompts import THINK_INSTRUCTION, render_prompt
from residency.platform.recipe import Recipe
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split
from residency.platform.registry.registry import Registry
from residency.platform.run_folder import RunFolder
from residency.training.student_tokenizer import TURN_END

BATCH = 10
Pair = tuple[str, str]  # what is asked, what is to be answered
COUNTS = [(a, b) for a in range(4) for b in range(4) if a != b]
SIDES = ("left", "right", "left", "right")  # of the users' lesions


def board_items() -> list[Item]:
    """Twelve yes-or-no questions, each with a cluster of its own."""
    return [
        Item(
            id=f"cells{a}{b}", content_key=f"{a}-{b}", source="made", split=Split.HELD_OUT, licence="CC0-1.0",
            cluster=f"cells{a}{b}", question=f"there are {a} cells on the left and {b} on the right. is the left red?",
            answer="yes" if a > b else "no", answer_kind=AnswerKind.YES_NO, family=Family.TEXTUAL_REASONING,
        )
        for a, b in COUNTS
    ]  # fmt: skip


def board_pairs() -> list[Pair]:
    """The boards' questions in both prompt modes, rightly answered."""
    pairs = []
    for item in board_items():
        thought = f"<think>so it is {item.answer}</think>"
        pairs.append((render_prompt(item, PromptMode.THINK), f"{thought}<answer>{item.answer}</answer>"))
        pairs.append((render_prompt(item, PromptMode.DIRECT), item.answer))
    return pairs


def user_question(number: int) -> str:
    return f"which side is the lesion on? {number % len(SIDES)}"


def user_pairs(tagged: bool) -> list[Pair]:
    """The users' questions, as the answer mode ``think`` asks them."""
    return [
        (
            f"{user_question(number)}\n{THINK_INSTRUCTION}",
            f"<think>so it is {side}</think><answer>{side}</answer>" if tagged else side,
        )
        for number, side in enumerate(SIDES)
    ]


def fit(source: Path, out: Path, pairs: Sequence[Pair], steps: int, learning_rate: float) -> Path:
    """``out``: the folder ``source`` with the weights after so many AdamW steps on batches of ten pairs."""
    processor = AutoProcessor.from_pretrained(source)
    tokenizer = processor.tokenizer
    end = tokenizer.convert_tokens_to_ids(TURN_END)
    rows, labels = [], []
    for asked, answer in pairs:
        chat = [{"role": "user", "content": [{"type": "text", "text": asked}]}]
        prompt = tokenizer(processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))["input_ids"]
        said = [*tokenizer(answer, add_special_tokens=False)["input_ids"], end]
        rows.append(torch.tensor([*prompt, *said]))
        labels.append(torch.tensor([*[-100] * len(prompt), *said]))
    model = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    order, loss = random.Random(0), torch.zeros(())
    for _ in range(steps):
        batch = order.sample(range(len(rows)), BATCH)
        ids = pad_sequence([rows[number] for number in batch], batch_first=True, padding_value=end)
        mask = pad_sequence([torch.ones_like(rows[number]) for number in batch], batch_first=True)
        wanted = pad_sequence([labels[number] for number in batch], batch_first=True, padding_value=-100)
        loss = model(input_ids=ids, attention_mask=mask, labels=wanted, mm_token_type_ids=torch.zeros_like(ids)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(f"{out.name}: loss {loss.item():.4f} after {steps} steps")
    shutil.copytree(source, out)
    model.save_pretrained(out.with_name(f".{out.name}"))
    shutil.copyfile(out.with_name(f".{out.name}") / "model.safetensors", out / "model.safetensors")  # the weights alone
    shutil.rmtree(out.with_name(f".{out.name}"))
    return out


def train_versions(student: Path, v1: Path, v2: Path, v3: Path) -> None:
    """Writes the three folders."""
    boards, users = board_pairs(), user_pairs(tagged=True)
    fit(student, v1, [*boards, *users, *users], 60, 2e-3)
    fit(v1, v2, [*boards, *user_pairs(tagged=False), *user_pairs(tagged=False)], 20, 1e-3)
    fit(v1, v3, [*boards, *users], 3, 1e-4)


RECIPE = Recipe.model_validate(
    {
        "name": "story",
        "student": {"max_prompt_tokens": 192, "max_new_tokens": 32},
        "data": {"format": "dataset", "source": "made"},
        "evaluation": {"samples": 0, "images": [], "bootstrap_resamples": 200},
    }
)
PROFILE = Profile.model_validate(
    {
        "name": "story",
        "generators": {"cpus": 0.5, "threads": 1, "kv_cache_gib": 0.1, "max_sequences": 32},
        "deadline_seconds": 240,
    }
)
DEADLINE_SECONDS = 240
app = typer.Typer()
app.command("promote")(promote_command)
app.command("rollback")(rollback_command)


def residency(*arguments: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


@pytest.fixture
def examined_run(ray_cluster: Any, tiny_student_dir: Path, tmp_path: Path) -> RunFolder:
    """A run whose checkpoints base, sft and rl are v1, v2 and v3, and have sat its boards on one real engine."""
    run = RunFolder(tmp_path / "run")
    run.open(RECIPE, PROFILE)
    card = DatasetCard(name="cells", source="-", licence="CC0-1.0", splits="-")
    write_dataset(run.data, board_items(), [], card)
    run.checkpoints.mkdir()
    train_versions(tiny_student_dir, *(run.checkpoints / name for name in ("base", "sft", "rl")))

    async def examine() -> None:
        with Journal.open(run.path / "journal") as journal:
            async with Crew(RECIPE, PROFILE, run, 0, Screen(quiet=True), journal) as crew:
                await evaluate_stage(crew)

    asyncio.run(examine())
    return run


@dataclass
class Traffic:
    """Users who ask without end, four at a time, each question in a session of its own."""

    served: Any
    answers: list[tuple[int, str, str]] = field(default_factory=list)  # question, version, whole answer
    failures: list[str] = field(default_factory=list)

    def ask(self, http: httpx.Client, number: int) -> str:
        """The version that answered, or the status of a failure."""
        body = {
            "model": self.served.model, "max_tokens": 48, "temperature": 0,
            "messages": [{"role": "user", "content": user_question(number)}], "residency": {"mode": "think"},
        }  # fmt: skip
        try:
            reply = http.post("/chat/completions", json=body, headers={"X-Session-Id": f"session-{number}"})
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return "failed"
        if reply.status_code != 200:
            self.failures.append(reply.text)
            return str(reply.status_code)
        document = reply.json()
        version = document["residency"]["version"]
        message = document["choices"][0]["message"]
        self.answers.append((number % len(SIDES), version, f"{message.get('reasoning')}|{message.get('content')}"))
        return version

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Until the block ends."""
        stop, numbers = threading.Event(), iter(range(1_000_000))

        def user() -> None:
            with self.client() as http:
                while not stop.is_set():
                    self.ask(http, next(numbers))

        with ThreadPoolExecutor(4) as pool:
            users = [pool.submit(user) for _ in range(4)]
            try:
                yield
            finally:
                stop.set()
        for one in users:
            one.result()

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.served.key}"}
        return httpx.Client(base_url=self.served.url, headers=headers, timeout=90)

    def who_answers(self) -> set[str]:
        """The versions that answer forty new sessions."""
        with self.client() as http:
            return {self.ask(http, 10_000_000 + number) for number in range(40)}


@contextmanager
def following(registry: Registry, served: Any) -> Iterator[list[str]]:
    """The server follows the registry as `residency serve REGISTRY` does; what it says of that."""
    said: list[str] = []
    stop = threading.Event()
    follower = Follower([registry], served.handle, served.data / "audit", said.append)

    def follow() -> None:
        while not stop.wait(LOOK_SECONDS):
            follower.look()

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(follow)
        try:
            yield said
        finally:
            stop.set()
            going.result(DEADLINE_SECONDS)


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@pytest.mark.timeout(1500)
def test_only_what_proves_better_stays_on_call(examined_run: RunFolder, served: Any, tmp_path: Path) -> None:
    registry, traffic = Registry(tmp_path / served.model), Traffic(served)
    promote = ("promote", str(examined_run.path), "--registry", str(registry.path), "--who", "anna", "--checkpoint")

    first = residency(*promote, "base")
    assert (first["state"], first["version"]) == ("stable", "v1")
    assert min(row["accuracy"] for row in first["evidence"]) > 0.7, "the boards were learnt"
    with following(registry, served) as said:
        wait_until("v1 on call", lambda: bool(served.handle.states[0].versions["v1"].digest))
        assert traffic.who_answers() == {"v1"}
        thoughts = {text.partition("|")[0].strip() for _, _, text in traffic.answers}
        assert thoughts <= {"so it is left", "so it is right"}, "the weights of this v1, not of what had its id before"

        second = residency(*promote, "sft", "--canary", "40%")
        assert second["state"] == "canary", "the boards do not see what is worse in it"
        with traffic.flowing():
            wait_until("v2 taken back", lambda: registry.read().canary is None)
            wait_until("v1 alone", lambda: served.handle.states[0].canary is None)
        taken_back = registry.history()[-1]
        assert (taken_back.kind, taken_back.version, taken_back.who) == ("canary_taken_back", "v2", "the server")
        assert "of the answers malformed against" in taken_back.reason
        assert taken_back.details["seen"]["v2"]["requests"] >= 30
        assert traffic.who_answers() == {"v1"}

        with traffic.flowing():
            assert residency(*promote, "rl")["stable"] == "v3"
            wait_until("v3 on call", lambda: served.handle.states[0].stable == "v3")
        assert traffic.who_answers() == {"v3"}

        with traffic.flowing():
            assert residency("rollback", "--registry", str(registry.path), "--reason", "to see it")["stable"] == "v1"
            wait_until("v1 again", lambda: served.handle.states[0].stable == "v1")
        assert traffic.who_answers() == {"v1"}
    served.handle.apply([served.state])

    print("\n".join(said), f"{len(traffic.answers)} requests", sep="\n")
    assert traffic.failures == []
    assert {version for _, version, _ in traffic.answers} == {"v1", "v2", "v3"}
    for version in ("v1", "v2", "v3"):
        for question in range(len(SIDES)):
            said_of_it = {text for asked, by, text in traffic.answers if (asked, by) == (question, version)}
            assert len(said_of_it) == 1, "each answer is wholly by the version that it names"
    assert [change.kind for change in registry.history()] == [
        "promoted", "canary_started", "canary_taken_back", "promoted", "rolled_back"
    ]  # fmt: skip
