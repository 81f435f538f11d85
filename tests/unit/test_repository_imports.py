"""Who may import what (DESIGN §2): read from the syntax trees, so that lazy imports count too."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "platform": {"platform"},
    "synthesis": {"platform", "synthesis"},
    "training": {"platform", "training"},
    "actors": {"platform", "synthesis", "training", "actors"},
    "platform/cli": {"platform", "synthesis", "training", "actors"},
}
MAY_IMPORT_RAY = re.compile(r"(actors/.*|platform/(cluster|placement|causes|pool/\w+|jobs?)\.py|platform/cli/.*)")
MAY_IMPORT_TORCH_AT_TOP = re.compile(r"(training|actors)/.*")
PRODUCT_FOLDERS = ("platform", "actors", "synthesis", "training")
OPTIONAL_PEERS = {"boto3"}  # imported only where the user's storage asks for it, and said so there


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of everything a tree imports, at the top or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import_time(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported: not function bodies, not blocks for type checkers."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_import_time(node.orelse)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef | ast.For | ast.While):
            for part in ("body", "orelse", "finalbody"):
                yield from at_import_time(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from at_import_time(handler.body)
        else:
            yield node


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def layer(path: Path) -> str:
    return "platform/cli" if relative(path).startswith("platform/cli/") else relative(path).split("/")[0]


def test_reading_imports_sees_lazy_and_relative_ones() -> None:
    source = "import a.b\ndef f():\n    from residency.actors import generator\nif x:\n    import torch\n"
    assert set(imported(ast.parse(source))) == {"a.b", "residency.actors", "residency.actors.generator", "torch"}
    at_top = [name for node in at_import_time(ast.parse(source).body) for name in imported(node)]
    assert at_top == ["a.b", "torch"]


def test_folders_import_only_what_they_may() -> None:
    for path in modules(*PRODUCT_FOLDERS):
        for name in imported(ast.parse(path.read_text())):
            parts = name.split(".")
            if parts[0] == "residency" and len(parts) > 1 and parts[1] in MAY_IMPORT:
                assert parts[1] in MAY_IMPORT[layer(path)], f"{relative(path)} imports {name}"


def test_nothing_imports_the_command_line() -> None:
    """Benchmarks may: they carry out the shipped stages, and are no part of the product."""
    for path in modules(*PRODUCT_FOLDERS):
        if layer(path) != "platform/cli":
            for name in imported(ast.parse(path.read_text())):
                assert not name.startswith("residency.platform.cli"), f"{relative(path)} imports {name}"


def test_our_folders_are_never_imported_by_their_bare_names() -> None:
    for path in modules(*PRODUCT_FOLDERS, "tests", "benchmarks", "requirements"):
        for name in imported(ast.parse(path.read_text())):
            parts = name.split(".")
            assert parts[0] not in ("actors", "synthesis", "training"), f"{relative(path)} imports {name}"
            is_ours = parts[0] == "platform" and len(parts) > 1 and (ROOT / "platform" / f"{parts[1]}.py").exists()
            assert not is_ours, f"{relative(path)} imports {name}"


def test_only_actors_and_the_cluster_files_import_ray() -> None:
    for path in modules(*PRODUCT_FOLDERS, "tests/unit"):
        if not MAY_IMPORT_RAY.fullmatch(relative(path)) and path.name != "test_repository_cluster.py":
            roots = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))}
            assert "ray" not in roots, f"{relative(path)} imports ray"


def test_platform_and_synthesis_import_no_torch_at_import_time() -> None:
    for path in modules(*PRODUCT_FOLDERS):
        if not MAY_IMPORT_TORCH_AT_TOP.fullmatch(relative(path)):
            statements = at_import_time(ast.parse(path.read_text()).body)
            roots = {name.split(".")[0] for node in statements for name in imported(node)}
            assert not roots & {"torch", "vllm", "deepspeed"}, f"{relative(path)} imports {roots} at its top"


def declared(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for each in extras for line in project["optional-dependencies"][each])]
    return {re.split(r"[\[<>=~! ]", line)[0].lower().replace("_", "-") for line in lines}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [(PRODUCT_FOLDERS, ("cpu", "gpu")), (("tests", "benchmarks", "requirements"), ("cpu", "gpu", "dev"))],
)
def test_every_imported_package_is_declared(folders: tuple[str, ...], extras: tuple[str, ...]) -> None:
    providers = importlib.metadata.packages_distributions()
    for path in modules(*folders):
        for name in {name.split(".")[0] for name in imported(ast.parse(path.read_text()))}:
            neighbour = (path.parent / f"{name}.py").exists()  # scripts in benchmarks/ share a file
            if name in sys.stdlib_module_names or name == "residency" or name in OPTIONAL_PEERS or neighbour:
                continue
            packages = {each.lower().replace("_", "-") for each in providers.get(name, [])}
            assert packages & declared(*extras), f"{relative(path)} imports {name}: declare it in pyproject.toml"
