"""Versioned prompts: Markdown files with front matter, rendered strictly, named by the hash of their bytes.

    ---
    name: reason
    version: 1
    ---
    {{ item.question }}

A prompt is never edited once it was used: a change is a new file with the next version.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined, Template, TemplateError

from residency.platform.errors import DataError

FOLDER = Path(__file__).resolve().parent.parent / "prompts"
FENCE = "---\n"


class PromptFile:
    """One prompt. ``prompt_hash`` is the SHA-256 of the whole file, front matter included."""

    def __init__(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise DataError(f"there is no prompt {path.name}", "a file of synthesis/prompts") from error
        self.prompt_hash = hashlib.sha256(data).hexdigest()
        before, opened, rest = data.decode().partition(FENCE)
        front, closed, body = rest.partition("\n" + FENCE)
        head = yaml.safe_load(front) if opened and closed and not before else None
        if not isinstance(head, dict) or set(head) != {"name", "version"}:
            raise DataError(f"the prompt {path.name} has no front matter", "`---`, name and version, `---`, the text")
        self.name, self.version = str(head["name"]), int(head["version"])
        if path.name != f"{self.name}-{self.version}.md":
            raise DataError(
                f"the prompt {path.name} says {self.name}, version {self.version}", "equal name and version"
            )
        try:
            self._template: Template = _environment().from_string(body.strip())
        except TemplateError as error:
            raise DataError(f"the prompt {path.name} is no template: {error}") from error

    def render(self, values: Mapping[str, Any]) -> str:
        """The text; raises DataError where the prompt names what is not given."""
        try:
            return self._template.render(values)
        except TemplateError as error:
            raise DataError(f"the prompt {self.name}, version {self.version}, cannot be filled: {error}") from error


@cache
def _environment() -> Environment:
    # the text goes to a model, not into a page: nothing is escaped
    return Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)


@cache
def load_prompt(name: str, version: int, folder: Path = FOLDER) -> PromptFile:
    """The prompt of ``synthesis/prompts/<name>-<version>.md``."""
    return PromptFile(folder / f"{name}-{version}.md")
