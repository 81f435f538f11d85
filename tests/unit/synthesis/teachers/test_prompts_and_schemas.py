"""Prompts and structured replies."""

from pathlib import Path

import pytest

from residency.platform.errors import DataError
from residency.platform.records import AnswerKind, Family, Item, Split
from residency.synthesis.teachers.chat_body import user_content
from residency.synthesis.teachers.prompt_files import FOLDER, PromptFile, load_prompt
from residency.synthesis.teachers.structured import to_tagged

ITEM = Item(
    id="i", content_key="c", source="s", split=Split.TRAIN, licence="CC0", cluster="i", question="Which cell <b>?",
    options=("red", "white"), answer="white", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
    media=("a" * 64,),
)  # fmt: skip


def test_the_shipped_prompts_ask_without_giving_the_answer_away() -> None:
    for name in ("reason", "reason-json", "reanswer", "reason-with-reference"):
        prompt = load_prompt(name, 1)
        text = prompt.render({"item": ITEM, "reasoning": "large and pale"})
        assert "Which cell <b>?" in text
        assert "Choose from: red, white." in text
        assert ("answer is known to be: white" in text) == (name == "reason-with-reference")
        assert len(prompt.prompt_hash) == 64


def test_every_shipped_prompt_file_says_its_name_and_version() -> None:
    for path in FOLDER.glob("*.md"):
        PromptFile(path)


def test_a_prompt_is_strict_and_named_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x-2.md"
    path.write_text("---\nname: x\nversion: 2\n---\nhello {{ who }}\n")
    first = PromptFile(path)
    assert first.render({"who": "you"}) == "hello you"
    with pytest.raises(DataError, match="'who' is undefined"):
        first.render({})
    path.write_text("---\nname: x\nversion: 2\n---\nhello {{ who }}!\n")
    assert PromptFile(path).prompt_hash != first.prompt_hash


@pytest.mark.parametrize(
    "text",
    ["hello", "---\nname: x\n---\nhello", "---\nname: x\nversion: 3\n---\nhi", "---\nname: x\nversion: 2\n---\n{{"],
)
def test_a_broken_prompt_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x-2.md"
    path.write_text(text)
    with pytest.raises(DataError):
        PromptFile(path)


def test_structured_replies_become_tagged_text() -> None:
    assert to_tagged('{"reasoning": "pale", "answer": "white"}') == ("<think>pale</think><answer>white</answer>", "")
    assert to_tagged('```json\n{"reasoning": "a", "answer": "b"}\n```')[1] == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [("white", "no JSON"), ('{"answer": "b"}', "schema"), ('{"reasoning": "a", "answer": 3}', "schema"),
     ('{"reasoning": "a", "answer": " "}', "empty"), ('{"reasoning": "a", "answer": "b", "x": 1}', "schema"),
     ('{"reasoning": "a', "no JSON")],
)  # fmt: skip
def test_replies_off_the_schema_say_what_is_wrong(text: str, fault: str) -> None:
    said, why = to_tagged(text)
    assert said == text
    assert fault in why


def test_images_stand_where_the_prompt_marks_them() -> None:
    parts = user_content("first <image>then <image>", ["u1", "u2"])
    assert isinstance(parts, list)
    assert [part.get("text") or part["image_url"]["url"] for part in parts] == ["first ", "u1", "then ", "u2"]
    assert user_content("no picture", []) == "no picture"
