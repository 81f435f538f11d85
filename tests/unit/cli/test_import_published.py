"""`residency import` of a published benchmark: what stands on the screen, and how mistakes end."""

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image


def residency(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "residency.platform.cli.app", "import", *arguments]
    environment = dict(os.environ, COLUMNS="300")
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env=environment)


def slake_folder(root: Path) -> Path:
    (root / "imgs/xmlab1").mkdir(parents=True)
    Image.new("RGB", (10, 10)).save(root / "imgs/xmlab1/source.jpg")
    row = {"img_name": "xmlab1/source.jpg", "question": "Is it?", "answer": "Yes", "answer_type": "CLOSED"}
    rows = [row | {"q_lang": "en", "qid": 1}, row | {"q_lang": "en", "qid": 2, "answer": ""}]
    (root / "test.json").write_text(json.dumps(rows))
    return root


def test_rows_refusals_and_the_check_of_n_are_told(tmp_path: Path) -> None:
    source = slake_folder(tmp_path / "slake")
    done = residency("slake", str(source), str(tmp_path / "out"), "--variant", "test-en")
    assert done.returncode == 0, done.stderr
    for words in ("1 rows of slake (test-en), 1060 fewer than the 1061 published (1 refused)", "refused 1: no answer",
                  "test.json row 2", "licence: CC BY 4.0"):  # fmt: skip
        assert words in done.stderr
    assert (tmp_path / "out/items.parquet").is_file()


def test_list_names_every_set_with_n_and_licence() -> None:
    done = residency("--list")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stderr.splitlines() if line.strip()}
    for name, n in {"mmmu-med": "1,752", "vqa-rad": "451", "slake": "2,094", "path-vqa": "6,719", "pmc-vqa": "33,430",
                    "omni-med-vqa": "88,996", "med-xpert-qa": "2,000"}.items():  # fmt: skip
        assert n in lines[name]
    assert "CC0" in lines["vqa-rad"]


def test_a_wrong_variant_and_a_variant_without_variants(tmp_path: Path) -> None:
    source = slake_folder(tmp_path / "slake")
    for arguments, words in (
        (("slake", str(source), str(tmp_path / "out"), "--variant", "dev"), "one of test, test-en, test-zh, train"),
        (("voc", str(source), str(tmp_path / "out"), "--variant", "test"), "only benchmarks have them"),
        (("slaked", str(source), str(tmp_path / "out")), "is not known"),
    ):
        done = residency(*arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["slake"]
