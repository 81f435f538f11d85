"""`trace` and `review` on a run that the real pipeline made."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from residency.platform.cli.app import app
from residency.platform.cli.trace_command import find_story
from residency.platform.errors import BadInputError, DataError
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Admitted, Answered, Judged, Requested, Trained
from residency.platform.run_folder import RunFolder
from residency.synthesis.lineage.pool_file import read_examples_table, read_pool

ACCEPTED = {"decision": "accept", "reviewer": "A", "time": "2026-05-01"}
pytestmark = pytest.mark.timeout(120)


def ids_of(run: RunFolder, target: str) -> list[str]:
    pool = read_pool(run.path)
    rows = zip(pool.column("id").to_pylist(), pool.column("target").to_pylist(), strict=True)
    return [key for key, kind in rows if kind == target]


def mixed(run: RunFolder) -> list[str]:
    return read_examples_table(run.examples).column("id").to_pylist()


def invoke(*args: str) -> Any:
    done = CliRunner().invoke(app, list(args), catch_exceptions=False)
    return json.loads(done.stdout)


def test_the_story_goes_from_the_source_row_to_the_rl_steps(made: Any, tmp_path: Path) -> None:
    run = made.run(tmp_path / "run")
    example_id = ids_of(run, "reflective")[0]
    item_id = find_story(run.path, example_id)["item"]["id"]
    with Journal.open(run.path / "journal") as journal:
        key = f"rl-0003/{item_id}"
        journal.append(Admitted(key), Requested(key, "g", 1), Answered(key, "g"), Judged(key, (0.0, 1.0)))
        journal.append(Trained((), 0, 1, "rl"), Trained((key,), 0, 2, "rl"))
        journal.commit()
    story = invoke("trace", example_id, "--run", str(run.path), "--json")
    item = story["item"]
    assert (item["source"], item["source_row"], item["licence"]) == ("set", f"line {int(item['id'][4:])}", "CC0-1.0")
    assert story["gates"] is None
    assert [(t["accuracy"], t["decision"], t["used"]) for t in story["traces"]] == [
        (0.0, "rejected", True), (1.0, "accepted", True)
    ]  # fmt: skip
    first = story["traces"][0]
    assert (first["teacher"], first["model"], first["revision"], first["text"]) == ("told", "told-1", "r7", made.wrong)
    assert (first["tokens_in"], first["tokens_out"], first["cost"], first["reason"]) == (20, 10, 0.5, "wrong answer")
    assert len(first["prompt_hash"]) == 64
    assert story["example"]["strategy"] in ("verification", "new_path", "correction")
    assert story["example"]["not_learned"] == "<think>It looks long to me. So the answer is no."
    assert story["outcome"]["attempts"] == [
        {"trace_id": first["trace_id"], "strategy": story["example"]["strategy"], "dropped": None}
    ]
    assert story["review"]["state"] == "not asked for"
    place = story["mixture"]["place"]
    assert (mixed(run)[place] == example_id) if place is not None else example_id not in mixed(run)
    assert [(row["step"], row["incarnation"]) for row in story["rl"]] == [(2, 0)]


def test_the_story_is_shown_and_an_unknown_id_names_the_nearest(made: Any, tmp_path: Path) -> None:
    run = made.run(tmp_path / "run", 6)
    known = ids_of(run, "cot")[0]
    shown = CliRunner().invoke(app, ["trace", known, "--run", str(run.path)], catch_exceptions=False)
    assert shown.exit_code == 0
    with pytest.raises(BadInputError, match=f"the nearest: {known}"):
        find_story(run.path, known[:-1] + ("0" if known[-1] != "0" else "1"))


def sheet_of(run: RunFolder, path: Path) -> list[dict[str, str]]:
    invoke("review", "export", str(run.path), str(path), "--json")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_sheet(rows: list[dict[str, str]], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def apply(run: RunFolder, sheet: Path) -> None:
    command = ["review", "apply", str(run.path), str(sheet)]
    CliRunner().invoke(app, command, catch_exceptions=False, standalone_mode=False)


def test_what_waits_is_not_taught_until_a_person_says_so(made: Any, tmp_path: Path) -> None:
    run = made.run(tmp_path / "run", review={"classes": ["cot"]})
    waiting = set(ids_of(run, "cot"))
    assert not waiting & set(mixed(run))
    rows = sheet_of(run, tmp_path / "out.csv")
    assert {row["example_id"] for row in rows} == waiting
    assert rows[0]["completion"] == made.right
    decided = [row | {"reviewer": "Dr A", "time": "2026-05-01T10:30"} for row in rows]
    better = made.right.replace("A round cell", "Every round cell")
    decided[0] |= {"decision": "edit", "edited_completion": better, "comment": "wording"}
    decided[1] |= {"decision": "reject"}
    for row in decided[2:20]:
        row["decision"] = "accept"
    write_sheet(decided, tmp_path / "in.csv")
    said = invoke("review", "apply", str(run.path), str(tmp_path / "in.csv"), "--json")
    assert (said["accept"], said["edit"], said["reject"], said["waiting"]) == (18, 1, 1, 10)
    assert len(sheet_of(run, tmp_path / "again.csv")) == 10
    edited = find_story(run.path, decided[0]["example_id"])
    assert edited["review"]["state"] == "edit"
    new_id = edited["review"]["decision"]["edited_id"]
    after = find_story(run.path, new_id)
    assert (after["review"]["state"], after["example"]["learned"]) == ("written by a reviewer", better)
    taught, allowed = set(mixed(run)), {row["example_id"] for row in decided[2:20]} | {new_id}
    assert taught & set(ids_of(run, "cot")) <= allowed
    assert decided[1]["example_id"] not in taught


def test_bad_rows_are_named_all_at_once_and_nothing_is_taken(made: Any, tmp_path: Path) -> None:
    run = made.run(tmp_path / "run", 8, review={"classes": ["cot", "reflective"]})
    before = mixed(run)
    rows = [
        row | {"reviewer": "A", "time": "2026-05-01", "decision": "accept"} for row in sheet_of(run, tmp_path / "o.csv")
    ]
    rows[0]["decision"] = "perhaps"
    rows[1]["reviewer"] = ""
    rows[2]["time"] = "yesterday"
    rows[3]["example_id"] = "0" * 16
    rows[4] |= {"decision": "edit", "edited_completion": made.right.replace("<answer>yes", "<answer>no")}
    rows[5] |= {"decision": "edit"}
    rows[7]["example_id"] = rows[6]["example_id"]
    reflective = next(row for row in rows[8:] if row["target"] == "reflective")
    reflective |= {"decision": "edit", "edited_completion": made.right}
    write_sheet(rows, tmp_path / "i.csv")
    with pytest.raises(DataError) as caught:
        CliRunner().invoke(
            app,
            ["review", "apply", str(run.path), str(tmp_path / "i.csv")],
            catch_exceptions=False,
            standalone_mode=False,
        )
    text = str(caught.value)
    assert "9 mistakes" in text
    for row, words in {
        2: "'perhaps' is none of", 3: "no reviewer", 4: "'yesterday' is no date", 5: "does not wait",
        6: "the edited text is not right", 7: "an edit needs edited_completion", 8: "is decided 2 times",
        9: "is decided 2 times",
    }.items():  # fmt: skip
        assert any(line.strip().startswith(f"row {row}: ") and words in line for line in text.splitlines()), (
            row,
            words,
        )
    assert "changes the sampled wrong part" in text
    assert mixed(run) == before
    assert not (run.path / "lineage" / "reviews.jsonl").exists()


def test_a_share_of_all_waits_by_chance_and_a_trained_run_takes_no_review(made: Any, tmp_path: Path) -> None:
    run = made.run(tmp_path / "run", 60, review={"share": 0.25})
    rows = sheet_of(run, tmp_path / "o.csv")
    assert 15 < len(rows) < 75
    run.finish_stage("sft", 1.0)
    write_sheet(
        [row | {"decision": "accept", "reviewer": "A", "time": "2026-05-01"} for row in rows], tmp_path / "i.csv"
    )
    with pytest.raises(BadInputError, match="has been trained on its mixture"):
        CliRunner().invoke(
            app,
            ["review", "apply", str(run.path), str(tmp_path / "i.csv")],
            catch_exceptions=False,
            standalone_mode=False,
        )
