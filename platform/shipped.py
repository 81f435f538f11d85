"""Recipes and profiles that come inside the package, found by name or given as a path."""

from importlib.resources import files
from pathlib import Path

from residency.platform.errors import RecipeError


def find(kind: str, name: str) -> Path:
    """The file of a recipe or profile (``kind``: ``recipes`` or ``profiles``): a path as it is, or a shipped name."""
    given = Path(name)
    if given.suffix in (".yaml", ".yml") and given.exists():
        return given
    folder = Path(str(files("residency"))) / kind
    shipped = folder / f"{given.stem}.yaml"
    if given.parent in (Path("."), Path(kind)) and shipped.is_file():
        return shipped
    names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise RecipeError(f"{name} does not exist", f"a YAML file, or one of the shipped {kind}: {names}")
