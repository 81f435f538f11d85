"""YAML files of recipes and profiles: read, changed by ``--set``, and every mistake told at once."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from residency.platform.errors import RecipeError
from residency.platform.recipe import Recipe


def apply_override(tree: dict[str, Any], assignment: str) -> None:
    """Put one ``a.b=value`` into the raw tree in place, the value read as YAML; RecipeError for a bad form."""
    dotted, separator, text = assignment.partition("=")
    if not separator or not dotted:
        raise RecipeError(f"--set {assignment!r}", "the form key.subkey=value", "write for example --set rl.steps=10")
    *parents, last = dotted.split(".")
    node: Any = tree
    for part in parents:
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise RecipeError(f"--set {dotted}: {part!r} is no index into a list of {len(node)}")
            node = node[int(part)]
        else:
            node = node.setdefault(part, {})
        if not isinstance(node, dict | list):
            raise RecipeError(f"--set {dotted}: {part!r} is a value, it has nothing below it")
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            raise RecipeError(f"--set {dotted}: {last!r} is no index into a list of {len(node)}")
        node[int(last)] = yaml.safe_load(text)
    else:
        node[last] = yaml.safe_load(text)


def explain(error: ValidationError, where: str) -> RecipeError:
    """All mistakes of a pydantic error in one RecipeError, each with its key and what was seen."""
    lines = []
    for mistake in error.errors():
        key = ".".join(str(part) for part in mistake["loc"]) or "recipe"
        seen = "" if mistake["type"] in ("extra_forbidden", "missing") else f" (seen: {mistake['input']!r})"
        text = "unknown key" if mistake["type"] == "extra_forbidden" else mistake["msg"].removeprefix("Value error, ")
        lines.append(f"{key}: {text}{seen if len(seen) < 120 else ''}")
    return RecipeError(
        f"{where} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}: " + "; ".join(lines),
        "",
        "correct the named keys; `docs/recipe.md` lists them all",
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's top-level mapping; raises RecipeError where the file is missing, unreadable or no mapping."""
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RecipeError(
            f"{path} does not exist", "a YAML file", "give a path, or the name of a shipped one"
        ) from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} holds {type(tree).__name__}", "a mapping of keys")
    return tree


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """The validated recipe of a YAML file with ``--set`` overrides; raises RecipeError naming every mistake at once."""
    tree = read_yaml(path)
    for assignment in overrides:
        apply_override(tree, assignment)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise explain(error, str(path)) from error
