"""Recipes and profiles: strict, frozen, every mistake at once, with the key and what was seen."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from residency.platform.errors import RecipeError
from residency.platform.profiles import Profile, load_profile
from residency.platform.recipe import Recipe
from residency.platform.recipe_file import apply_override, load_recipe
from residency.platform.shipped import find

ROOT = Path(__file__).parents[3]
MINIMAL: dict[str, Any] = {"name": "test", "data": {"format": "starter"}}


def written(tmp_path: Path, tree: dict[str, Any]) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("name", ["starter", "bccd", "infimed-3b"])
def test_shipped_recipes_load(name: str) -> None:
    assert load_recipe(find("recipes", name)).name == name


@pytest.mark.parametrize("name", ["laptop", "one-gpu", "cluster"])
def test_shipped_profiles_load(name: str) -> None:
    assert load_profile(find("profiles", name)).name == name


def test_an_unknown_name_lists_what_is_shipped() -> None:
    with pytest.raises(RecipeError, match="bccd, boards, infimed-3b, starter"):
        find("recipes", "stater")


def test_unknown_keys_and_bad_values_are_all_named_at_once(tmp_path: Path) -> None:
    tree = MINIMAL | {"sft": {"batchsize": 4}, "rl": {"group_size": 1}, "colour": "blue"}
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(tmp_path, tree))
    message = str(caught.value)
    assert "3 mistakes" in message
    for key in ("sft.batchsize: unknown key", "rl.group_size", "colour: unknown key"):
        assert key in message


def test_voc_without_a_source_says_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--set data\.source=FOLDER"):
        load_recipe(written(tmp_path, {"name": "x", "data": {"format": "voc"}}))


def test_shares_that_do_not_sum_show_the_sum(tmp_path: Path) -> None:
    tree = MINIMAL | {"mixture": {"targets": {"direct": 0.5, "cot": 0.6}}}
    with pytest.raises(RecipeError, match=r"1\.100"):
        load_recipe(written(tmp_path, tree))


def test_sources_must_name_fields(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"sft\.epochs"):
        load_recipe(written(tmp_path, MINIMAL | {"sources": {"sft.epochs": "InfiMed"}}))


def test_overrides_reach_into_lists_and_are_read_as_yaml(tmp_path: Path) -> None:
    tree = MINIMAL | {"synthesis": {"teachers": [{"kind": "annotations"}, {"kind": "vllm", "model": "a"}]}}
    loaded = load_recipe(written(tmp_path, tree), ("synthesis.teachers.1.model=b", "rl.steps=3", "seeds=[1, 2]"))
    assert loaded.synthesis.teachers[1].model == "b"
    assert loaded.rl.steps == 3
    assert loaded.seeds == (1, 2)


@pytest.mark.parametrize("assignment", ["rl.steps", "=3", "name.inner=3", "seeds.7=1"])
def test_overrides_of_a_bad_form_are_refused(assignment: str) -> None:
    with pytest.raises(RecipeError):
        apply_override({"name": "x", "seeds": [0]}, assignment)


def test_records_are_frozen() -> None:
    recipe = Recipe.model_validate(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_every_key_is_documented() -> None:
    """docs/recipe.md names every key of recipe and profile."""
    text = (ROOT / "docs" / "recipe.md").read_text()

    def keys(model: Any, prefix: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            found.append(prefix + name)
            if hasattr(field.annotation, "model_fields"):
                found += keys(field.annotation, f"{prefix}{name}.")
        return found

    absent = [key for model in (Recipe, Profile) for key in keys(model) if f"`{key}`" not in text]
    assert not absent
