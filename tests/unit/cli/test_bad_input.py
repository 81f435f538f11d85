"""What a user's mistakes come to: one clear sentence, exit 2, and nothing half-written left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

BOX = "<object><name>WBC</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def residency(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, COLUMNS="300") | ({"PATH": path} if path is not None else {})
    command = [sys.executable, "-m", "residency.platform.cli.app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environment)


def voc_folder(root: Path, box: tuple[int, int, int, int] = (300, 200, 350, 250)) -> Path:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for shade, (split, stem) in enumerate((("train", "a"), ("train", "b"), ("val", "c"))):
        Image.new("RGB", (640, 480), (200, 150 + shade, 150)).save(root / "JPEGImages" / f"{stem}.jpg")
        (root / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>{stem}.jpg</filename><size><width>640</width><height>480</height><depth>3</depth>"
            f"</size>{BOX.format(*box)}</annotation>"
        )
        with (root / "ImageSets" / "Main" / f"{split}.txt").open("a") as file:
            file.write(f"{stem}\n")
    return root


def import_voc(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return residency("import", "voc", str(source), str(out), "--train", "12", "--tune", "6", "--held-out", "6")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_missing_image_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    source = voc_folder(tmp_path / "voc")
    (source / "JPEGImages" / "b.jpg").unlink()
    refused(import_voc(source, tmp_path / "out"), "b.jpg", "What to do")
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]


def test_a_corrupt_image_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    source = voc_folder(tmp_path / "voc")
    whole = (source / "JPEGImages" / "c.jpg").read_bytes()
    (source / "JPEGImages" / "c.jpg").write_bytes(whole[: len(whole) // 3])
    refused(import_voc(source, tmp_path / "out"), "c.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]


def test_a_box_outside_the_picture_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    source = voc_folder(tmp_path / "voc", box=(600, 10, 700, 60))
    refused(import_voc(source, tmp_path / "out"), "700", "640")
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]


def test_an_unknown_recipe_key_is_named() -> None:
    refused(residency("check", "starter", "--set", "sft.batchsize=3"), "sft.batchsize: unknown key", "docs/recipe.md")


@pytest.mark.parametrize(
    ("arguments", "word"), [(["run"], "recipe"), (["check", "starter", "--nope"], "--nope"), (["frob"], "frob")]
)
def test_usage_errors_are_short_and_exit_2(arguments: list[str], word: str) -> None:
    refused(residency(*arguments), word)


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    refused(residency("run", "stater"), "stater", "starter")


def test_a_model_folder_without_chat_template_is_refused_before_anything_starts(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    config = {"num_hidden_layers": 1, "num_attention_heads": 1, "hidden_size": 64}
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").write_bytes(b"\0" * 8)
    (model / "tokenizer.json").write_text("{}")
    run = tmp_path / "run"
    done = residency("run", "starter", "--run", str(run), "--set", f"student.model={model}")
    refused(done, "chat template", "copy the template")
    assert not run.exists()


def test_import_into_an_existing_folder_is_refused(tmp_path: Path) -> None:
    refused(import_voc(voc_folder(tmp_path / "voc"), tmp_path), "exists")


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    refused(residency("import", "cocoo", str(tmp_path), str(tmp_path / "out")), "cocoo", "voc")


@pytest.mark.parametrize("target", ["nothing-here", "."])
def test_serving_what_is_neither_run_nor_model_is_refused(target: str, tmp_path: Path) -> None:
    refused(residency("serve", str(tmp_path / target)), "neither a run nor a model folder")


def test_check_prints_one_json_document() -> None:
    done = residency("check", "infimed-3b", "--profile", "cluster", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["ok"]
    assert {role["role"] for role in document["roles"]} >= {"generator", "learner", "publisher"}


def test_verify_judges_a_datasets_own_answers(tmp_path: Path) -> None:
    made = import_voc(voc_folder(tmp_path / "voc"), tmp_path / "out")
    if made.returncode:
        pytest.fail(made.stderr)
    done = residency("verify", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "score 1" in done.stderr
