"""The page's files and headers: it loads nothing from elsewhere, runs nothing that stands in it, and wants no key."""

import re
from typing import Any

import pytest

from residency.platform.serving.try_page import FOLDER, PATH

FILES = {path.name: path.read_text() for path in FOLDER.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_file_is_served_without_a_key_under_a_strict_policy(name: str, new_door: Any) -> None:
    answer = new_door()("GET", PATH if name == "index.html" else f"{PATH}/{name}", key=None)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert not re.search(r"unsafe|http|\*", policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert {"html": "text/html", "css": "text/css", "js": "text/javascript"}[name.rpartition(".")[2]] in answer.headers[
        "content-type"
    ]


def test_nothing_else_of_the_folder_is_served(new_door: Any) -> None:
    for name in ("index.html", "../try_page.py", "%2e%2e/try_page.py", ""):
        assert new_door()("GET", f"{PATH}/{name}").status == 404


def test_the_page_names_only_its_own_files_and_holds_no_script() -> None:
    page = FILES["index.html"]
    named = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert {name for name in named if not name.startswith(("#", "data:"))} == {"try/page.css", "try/page.js"}
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == [""]
    assert not re.search(r"\s(?:on[a-z]+|style)=", page)
    for name, text in FILES.items():
        assert "//" not in re.sub(r"(?m)^\s*//.*| // .*", "", text), f"{name} may load from elsewhere"


def test_the_page_says_whether_feedback_is_taken(new_door: Any) -> None:
    assert b'data-feedback="off" data-body-mib="1"' in new_door(body_mib=1)("GET", PATH, key=None).body
    on = new_door(body_mib=1, feedback_folder="/nowhere")("GET", PATH, key=None).body
    assert b'data-feedback="on" data-body-mib="1"' in on
    assert b"$" not in on
