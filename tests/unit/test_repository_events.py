"""Each kind of event that the code can write has its line on the operator's page, and the page tells of no other."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operations.md"


def kinds_in(source: str) -> set[str]:
    """First arguments, written out, of calls of anything that is called event or events."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            called = node.func
            name = getattr(called, "attr", getattr(called, "id", ""))
            first = node.args[0]
            if name.strip("_") in ("event", "events") and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def told_on_the_page() -> set[str]:
    section = PAGE.read_text().split("\n## Events\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.M)
    return {kind for row in rows for kind in re.findall(r"`(\w+)`", row)}


def test_kinds_are_found_however_the_writer_is_called() -> None:
    source = 'run.event("a", x=1)\nself._event(\n    "b", member)\nevents("c")\nevent(kind)\nother("d")\n'
    assert kinds_in(source) == {"a", "b", "c"}


def test_every_event_has_its_line() -> None:
    code: dict[str, str] = {}
    for folder in ("platform", "actors", "synthesis", "training"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            code |= dict.fromkeys(kinds_in(path.read_text()), path.relative_to(ROOT).as_posix())
    assert len(code) > 20
    untold = {kind: path for kind, path in code.items() if kind not in told_on_the_page()}
    assert untold == {}, "say in docs/operations.md what it means and what to do"
    assert told_on_the_page() - code.keys() == set(), "no code writes these any more"
