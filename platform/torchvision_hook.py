"""Import hook that lets PyPI's CUDA-built torchvision be imported beside a CPU build of torch.

That wheel's compiled operators do not load there, and its import dies with "operator torchvision::nms does not exist".
Declaring the two missing schemas before the first import is enough: nothing here calls them. Where torch has CUDA or
the operators are present the hook does nothing. It is run at interpreter start by ``residency_torchvision.pth``
(written by ``requirements/install.py``), because vLLM and Ray start processes that never import our package.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[Any] = []  # a torch Library's definitions live only as long as the object


def _operators_load(package_directory: str) -> bool:
    """Whether torchvision's own compiled operators can be loaded by this torch."""
    import torch

    finder = importlib.machinery.FileFinder(
        package_directory, (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    )
    spec = finder.find_spec("_C")
    if spec is None or spec.origin is None:
        return False
    try:
        torch.ops.load_library(spec.origin)
    except OSError:
        return False
    return True


def declare_missing_operators(package_directory: str) -> list[str]:
    """Declare torchvision's missing operator schemas on a CPU torch; returns the names that were declared."""
    import torch

    if torch.version.cuda is not None or _operators_load(package_directory):
        return []
    missing = [name for name in SCHEMAS if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in missing:
            library.define(SCHEMAS[name])
        _libraries.append(library)
    return missing


class _RepairingLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, package_directory: str) -> None:
        self._loader = loader
        self._package_directory = package_directory

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        declare_missing_operators(self._package_directory)
        self._loader.exec_module(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class TorchvisionFinder(importlib.abc.MetaPathFinder):
    """Wraps the loader of the top-level ``torchvision`` package and leaves every other import alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or not spec.submodule_search_locations:
            return spec
        spec.loader = _RepairingLoader(spec.loader, list(spec.submodule_search_locations)[0])
        return spec


def install() -> None:
    """Put the finder first on ``sys.meta_path``, once a process."""
    if not any(isinstance(finder, TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, TorchvisionFinder())


install()
