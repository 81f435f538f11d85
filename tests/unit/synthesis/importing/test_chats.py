"""Chats in every usual spelling become items; what is no question and answer is refused with its reason."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from residency.platform.records import AnswerKind, Family

WHITE, BLACK = Image.new("RGB", (6, 5), "white"), Image.new("RGB", (6, 5), "black")


def data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    WHITE.save(tmp_path / "images/white.png")
    BLACK.save(tmp_path / "images/black.png")
    return tmp_path


def turns(asked: str, answered: str, names: tuple[str, ...] = ("from", "value", "human", "gpt")) -> list[Any]:
    role, text, user, assistant = names
    return [{role: user, text: asked}, {role: assistant, text: answered}]


SPELLINGS: list[dict[str, Any]] = [
    {"conversations": turns("<image>Is it white?", "Yes"), "images": ["images/white.png"]},
    {"messages": turns("<image>\nIs it white?", "yes.", ("role", "content", "user", "assistant")),
     "images": "images/white.png"},
    {"id": 7, "image": ["images/white.png"], "conversations": turns("Is it white?", "Yes")},  # PubMedVision
    {"image": "images/white.png", "conversatons": turns("Is it white?\n<image>", "yes")},  # LLaVA-Med
]  # fmt: skip


@pytest.mark.parametrize("row", SPELLINGS)
def test_all_spellings_give_the_same_item(row: Any, folder: Path, jsonl: Any, importing: Any) -> None:
    _, dataset = importing("sharegpt", jsonl([row]))
    (item,) = dataset.items
    assert (item.question, item.answer, item.answer_kind) == ("Is it white?", "yes", AnswerKind.YES_NO)
    assert item.family is Family.MEDICAL_MULTIMODAL
    assert dataset.media.open_image(item.media[0]).getpixel((0, 0)) == (255, 255, 255)


PARTS: list[list[dict[str, Any]]] = [
    [{"type": "image_url", "image_url": {"url": data_url(WHITE)}}, {"type": "text", "text": "Is it white?"}],
    [{"type": "text", "text": "Is it white?"}, {"type": "image_url", "image_url": {"url": "images/white.png"}}],
    [{"type": "input_image", "image_url": data_url(WHITE)}, {"type": "input_text", "text": "Is it white?"}],
    [{"type": "image", "image": "file:images/white.png"}, {"type": "text", "text": "Is it white?"}],
]


@pytest.mark.parametrize("parts", PARTS)
def test_openai_parts(parts: Any, folder: Path, jsonl: Any, importing: Any) -> None:
    messages = [
        {"role": "system", "content": "You see pictures."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "Yes"},
    ]
    _, dataset = importing("openai", jsonl([{"messages": messages}]))
    (item,) = dataset.items
    assert (item.question, item.answer, len(item.media)) == ("Is it white?", "yes", 1)
    assert item.metadata["system"] == "You see pictures."


def test_each_answer_is_a_row_that_knows_what_was_said_before(folder: Path, jsonl: Any, importing: Any) -> None:
    chat = turns("<image>What colour?", "white") + turns("And this: <image> then?", "<think>dark</think><answer>black")
    row = {"conversations": chat, "images": ["images/white.png", "images/black.png"]}
    outcome, dataset = importing("sharegpt", jsonl([row]))
    first, second = dataset.items
    assert (first.question, first.answer, len(first.media)) == ("What colour?", "white", 1)
    assert second.question == "<image>What colour?\nAnswer: white\nAnd this: <image> then?"
    assert (second.answer, second.metadata["reasoning"], len(second.media)) == ("black", "dark", 2)
    assert first.cluster == second.cluster
    assert outcome.taken == 2


REFUSED: list[tuple[str, Any, str]] = [
    ("sharegpt", {"conversations": turns("<image><image>Two?", "yes"), "images": ["images/white.png"]},
     "its image markers and its images are not as many"),
    ("sharegpt", {"conversations": turns("Is it?", "yes")[:1]}, "user and assistant do not take turns"),
    ("sharegpt", {"conversations": turns("Is it?", "")}, "no answer"),
    ("sharegpt", {"conversations": turns("\ud800?", "yes")}, "its text or facts cannot be written down"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "?"}, {"from": "function_call", "value": "{}"}]},
     "it calls tools"),
    ("sharegpt", {"conversations": turns("Is it?", "yes"), "images": ["../secret.png"]},
     "its image name leads out of the image folder"),
    ("sharegpt", {"conversations": turns("Is it?", "yes"), "images": ["images/none.png"]}, "its image file is missing"),
    ("sharegpt", {"conversations": turns("Is it?", "yes"), "chosen": {"a": 1}, "rejected": {"a": 2}},
     "it is a preference pair, not an answer"),
    ("sharegpt", {"conversations": "none"}, "its messages are no list"),
    ("sharegpt", {"text": "what?"}, "no messages"),
    ("sharegpt", "{broken", "the line is not JSON"),
    ("openai", {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://host/x.png"}}]}, {"role": "assistant", "content": "yes"}]},
     "its image is a web address: nothing is fetched"),
    ("openai", {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}]}]},
     "its data URL is no base64 image"),
    ("openai", {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "yes"}]}, "its image cannot be used"),
    ("openai", {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
     "a message part is neither text nor image"),
    ("openai", {"messages": [{"role": "pilot", "content": "Is it?"}]}, "a message's role is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "reason"), REFUSED)
def test_a_bad_row_costs_itself_and_leaves_no_image(
    name: str, row: Any, reason: str, folder: Path, jsonl: Callable[..., Path], importing: Any
) -> None:
    good = turns("Is it white?", "yes", ("role", "content", "user", "assistant"))
    outcome, dataset = importing(name, jsonl([{"messages": good}, row, {"messages": [*good, good[0]]}]))
    assert (outcome.rows, outcome.taken, dict(outcome.refused)) == (3, 2, {reason: 1})
    assert outcome.rejects is not None
    assert reason in outcome.rejects.read_text()
    assert dataset.card.skipped == {reason: 1}
    assert not list(dataset.media.root.rglob("*.png"))
