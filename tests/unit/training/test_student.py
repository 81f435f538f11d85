import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from residency.training.student import build_student


def test_the_folder_loads_and_sees_a_picture_as_nine_tokens(tiny_student_dir: Path) -> None:
    processor: Any = AutoProcessor.from_pretrained(tiny_student_dir)
    model = AutoModelForImageTextToText.from_pretrained(tiny_student_dir)
    assert 2e6 < sum(parameter.numel() for parameter in model.parameters()) < 4e6
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "which side is the lesion on?"}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert text.startswith("<|im_start|>user\n<|vision_start|>")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    image = Image.fromarray(np.zeros((84, 84, 3), np.uint8))
    inputs = processor(text=[text], images=[image], return_tensors="pt")
    assert inputs["image_grid_thw"].tolist() == [[1, 6, 6]]
    assert int((inputs["input_ids"] == processor.image_token_id).sum()) == 9
    assert torch.isfinite(model(**inputs).logits).all()


def test_every_word_is_one_token_and_tags_are_read_back(tiny_student_dir: Path) -> None:
    tokenizer: Any = AutoProcessor.from_pretrained(tiny_student_dir).tokenizer
    text = "<think>the nucleus is round.</think><answer>lymphocyte</answer>"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == 10  # two pairs of tags, the words and the full stop
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer("there are 3 cells")["input_ids"]) == 4  # a digit takes its space along
    assert tokenizer.decode(tokenizer("naïve 中 ☤")["input_ids"]) == "naïve 中 ☤"  # bytes: nothing is unknown


def test_same_texts_and_seed_give_the_same_files(tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    texts = ["a lesion on the left", "a lesion on the right"]
    first = digests(build_student(tmp_path / "a", texts, seed=1))
    assert digests(build_student(tmp_path / "b", reversed(texts), seed=1)) == first
    other = digests(build_student(tmp_path / "a", texts, seed=2))  # in place of the first
    assert other["model.safetensors"] != first["model.safetensors"]
    assert other["tokenizer.json"] == first["tokenizer.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
