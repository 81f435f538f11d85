"""`residency import` of rows and `residency export`: what stands on the screen, and how mistakes end."""

import json
import os
import subprocess
import sys
from pathlib import Path


def residency(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "residency.platform.cli.app", *arguments]
    environment = dict(os.environ, COLUMNS="300")
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def rows_file(folder: Path) -> Path:
    rows = [{"frage": f"Is it {i}?", "answer": "yes", "fall": f"p{i}"} for i in range(20)] + [{"frage": "Is it?"}]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_import_then_export(tmp_path: Path) -> None:
    source, out = str(rows_file(tmp_path)), str(tmp_path / "out")
    done = residency("import", "table", source, out, "--map", "question=frage,patient=fall", "--split",
                     "train=0.5,held_out=0.5", "--licence", "CC BY 4.0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in ("20 of 21 rows of out taken", "answers: 20 yes_no", "refused 1: no answer", "rows.jsonl line 21",
                  "licence: CC BY 4.0", "out.rejects.jsonl"):  # fmt: skip
        assert words in done.stderr
    assert json.loads((tmp_path / "out.rejects.jsonl").read_text())["reason"] == "no answer"
    done = residency("export", out, "openai", str(tmp_path / "exported"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["rows"], told["targets"]) == (20, {"direct": 20})
    assert sum(told["splits"].values()) == 20


def test_mistakes_end_with_2_and_one_sentence(tmp_path: Path) -> None:
    source, out = str(rows_file(tmp_path)), str(tmp_path / "out")
    before = set(tmp_path.iterdir())
    for arguments, words in (
        (("import", "table", source, out, "--map", "question=frag"), "did you mean 'frage'?"),
        (("import", "tabel", source, out), "did you mean 'table'?"),
        (("import", "table", source, out, "--window", "40,400"), "--window for `table`"),
        (("import", "dicom", source, out, "--window", "40"), "CENTRE,WIDTH"),
        (("import", "slake", source, out, "--map", "question=frage"), "--map for `slake`"),
        (("import", "table", source, out, "--split", "half"), "--split half"),
        (("import", "table", str(tmp_path / "none.csv"), out), "does not exist"),
        (("export", str(tmp_path), "openai", out), "neither a dataset nor a run"),
        (("export", str(tmp_path), "parquet", out), "one of openai, sharegpt"),
    ):
        done = residency(*arguments)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert set(tmp_path.iterdir()) == before


def test_list_shows_each_format_with_its_options() -> None:
    done = residency("import", "--list")
    assert done.returncode == 0, done.stderr
    for name, option in (("sharegpt", "messages|images"), ("openai", "--salt"), ("table", "question|answer|options"),
                         ("captions", "--question"), ("dicom", "--window")):  # fmt: skip
        told = done.stderr.split(f"\n{name} ")[1]
        assert option in "".join(told.splitlines()[:2])
