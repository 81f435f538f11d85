"""Exports as the tools that they are for read them, and the card."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from residency.platform.dataset_folder import read_dataset
from residency.platform.errors import BadInputError, DataError
from residency.platform.media_store import MediaStore
from residency.platform.records import Example, Item, Split
from residency.synthesis.exports.exporting import export

# what LLaMA-Factory documents for `dataset_info.json` in data/README.md (read in version 0.9.5)
TOP_KEYS = {"file_name", "formatting", "columns", "tags", "ranking", "subset", "split", "folder", "num_samples"}
COLUMN_KEYS = {"messages", "system", "tools", "images", "videos", "audios", "chosen", "rejected", "kto_tag"}
TAG_KEYS = {"role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"}

Write = Callable[[Sequence[Item]], Path]
Make = Callable[..., Item]


@pytest.fixture
def items(make_item: Make) -> list[Item]:
    return [
        make_item(1, shows=[0]),
        make_item(2),
        make_item(3, shows=[1, 2], question="which has more, <image> or <image>?"),
        make_item(4, metadata={"system": "You count.", "reasoning": "3 and 4"}, split=Split.HELD_OUT),
    ]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trl_loads_and_collates_it(
    items: list[Item], dataset: Write, tiny_student_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through `datasets` and SFTTrainer's own collator: each image's tokens, and the chat's text, are in the batch."""
    from datasets import Image, List, load_dataset
    from transformers import AutoProcessor
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    export(dataset(items), "openai", tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows: Any = load_dataset("json", data_files="train.jsonl", split="train", cache_dir=str(tmp_path / "cache"))
    rows = rows.cast_column("images", List(Image()))
    assert rows[0]["images"][0].size == (84, 84)
    processor: Any = AutoProcessor.from_pretrained(tiny_student_dir)
    batch = DataCollatorForVisionLanguageModeling(processor)(list(rows))
    assert len(batch["image_grid_thw"]) == 3
    shown = (batch["input_ids"] == processor.image_token_id).sum(1).tolist()
    assert shown == [9, 0, 18]
    texts = processor.batch_decode(batch["input_ids"])
    assert "how many cells are there" in texts[1].lower()
    assert texts[2].index("<|image_pad|>") > texts[2].index("more"), "an image inside the text stays there"


def test_trl_takes_text_only_rows_as_plain_messages(
    dataset: Write, make_item: Make, tiny_student_dir: Path, tmp_path: Path
) -> None:
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl.data_utils import is_conversational

    export(dataset([make_item(2)]), "openai", tmp_path / "out")
    rows: Any = load_dataset("json", data_files=str(tmp_path / "out/train.jsonl"), cache_dir=str(tmp_path / "cache"))
    assert is_conversational(rows["train"][0])
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_student_dir)
    assert "cells" in tokenizer.apply_chat_template(rows["train"][0]["messages"], tokenize=False)


def test_llama_factory_finds_its_keys_tags_and_markers(items: list[Item], dataset: Write, tmp_path: Path) -> None:
    """It cannot be installed beside this stack (0.9.5 wants transformers ≤ 5.6), so its documented form is checked."""
    export(dataset(items), "sharegpt", tmp_path / "out")
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())
    assert set(info) == {"tiny_set_held_out", "tiny_set_train"}
    for entry in info.values():
        assert set(entry) <= TOP_KEYS
        assert entry["formatting"] == "sharegpt"
        assert set(entry["columns"]) <= COLUMN_KEYS
        assert set(entry["tags"]) <= TAG_KEYS
        tags = entry["tags"]
        for row in lines(tmp_path / "out" / entry["file_name"]):
            turns = row[entry["columns"]["messages"]]
            roles = [turn[tags["role_tag"]] for turn in turns]
            spoken = roles[1:] if roles[0] == tags["system_tag"] else roles
            assert spoken == [tags["user_tag"], tags["assistant_tag"]]
            images = row[entry["columns"]["images"]]
            assert sum(turn[tags["content_tag"]].count("<image>") for turn in turns) == len(images)
            assert all((tmp_path / "out" / name).is_file() for name in images)
    held_out = lines(tmp_path / "out/held_out.jsonl")[0]["conversations"]
    assert held_out[0] == {"from": "system", "value": "You count."}
    assert held_out[2]["value"] == "<think>3 and 4</think><answer>7</answer>"


def test_a_run_gives_its_examples_and_they_lead_back_to_its_items(
    run_folder: tuple[Path, list[Example]], import_again: Callable[[str, Path, Path], Any], tmp_path: Path
) -> None:
    run, examples = run_folder
    for name in ("openai", "sharegpt"):
        outcome = export(run, name, tmp_path / name)
        assert outcome.targets == {"direct": 1, "cot": 1, "reflective": 1}
        rows = lines(tmp_path / name / "train.jsonl")
        beside = [json.loads(row["residency"])["example"] for row in rows]
        assert [one["id"] for one in beside] == [example.id for example in examples]
        assert (beside[2]["loss_start"], beside[2]["pattern"], beside[1]["from_traces"]) == (8, "correction", ["t1"])
        again = import_again(name, tmp_path / name, tmp_path / f"{name}-back")
        assert dict(again.refused) == {"an earlier row has its key": 1}  # two examples of one item
        assert read_dataset(tmp_path / f"{name}-back").items == read_dataset(run / "data").items
    assert rows[0]["conversations"][0]["value"].startswith("<image>how many cells")


def test_the_card_of_a_run(run_folder: tuple[Path, list[Example]], tmp_path: Path) -> None:
    run, _ = run_folder
    export(run, "openai", tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["configs"][0]["data_files"] == [{"split": "train", "path": "train.jsonl"}]
    for words in ("| reflective | 1 | 33.3 % |", "| CC BY 4.0 | 2 | 66.7 % |", "**1 rows have no known licence",
                  "- pairs: 3", "- benchmarks: vqa-rad", "No gates are on record", "recipe.mixture.targets.direct: ",
                  "left out at import, no area: 2", "1 reflective rows begin with a wrong part", "arXiv:2505.23867",
                  "drawn by hand", "| CT | 2 |", 'load_dataset("json", data_files="train.jsonl"'):  # fmt: skip
        assert words in body, words
    assert str(tmp_path) not in text


def test_images_are_stored_once_and_can_stand_within(dataset: Write, make_item: Make, tmp_path: Path) -> None:
    source = dataset([make_item(number, shows=[0], cluster="c") for number in range(4)])
    outcome = export(source, "openai", tmp_path / "files")
    assert (outcome.rows, outcome.images) == (4, 1)
    export(source, "openai", tmp_path / "inline", inline=True)
    assert not (tmp_path / "inline/images").exists()
    part = lines(tmp_path / "inline/train.jsonl")[0]["messages"][0]["content"][0]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_damaged_image_or_a_taken_folder_leaves_nothing(items: list[Item], dataset: Write, tmp_path: Path) -> None:
    source = dataset([items[0]])
    MediaStore(source / "media").path(items[0].media[0]).write_bytes(b"other")
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match="no longer has the content"):
        export(source, "sharegpt", tmp_path / "out")
    for name, inline in (("sharegpt", True), ("alpaca", False)):
        with pytest.raises(BadInputError):
            export(source, name, tmp_path / "out", inline)
    with pytest.raises(BadInputError, match="exists already"):
        export(source, "openai", source)
    assert set(tmp_path.iterdir()) == before
