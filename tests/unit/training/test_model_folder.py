import json
import shutil
from pathlib import Path

import pytest

from residency.platform.errors import ModelError
from residency.training.model_folder import check_model_folder, media_token_ids


@pytest.fixture
def folder(tiny_student_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_student_dir, tmp_path / "model"))


def test_a_whole_folder_passes_and_names_its_media_tokens(folder: Path) -> None:
    check_model_folder(folder)
    vocabulary = {
        token["content"]: token["id"] for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    }
    wanted = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    assert media_token_ids(folder) == tuple(sorted(vocabulary[token] for token in wanted))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no .safetensors"),
        ("tokenizer.json", "no tokenizer"),
        ("processor_config.json", "no preprocessor_config.json or processor_config.json"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str, said: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=said) as caught:
        check_model_folder(folder)
    assert caught.value.remedy
    assert str(folder) in str(caught.value)


def test_own_code_needs_the_users_word(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "mine.Model"}}))
    with pytest.raises(ModelError, match="trust_remote_code"):
        check_model_folder(folder)
    check_model_folder(folder, trust_remote_code=True)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        check_model_folder(tmp_path / "nowhere")
