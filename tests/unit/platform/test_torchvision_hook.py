"""The hook cures a torchvision built for CUDA beside a CPU torch, and leaves a sound one alone."""

import _json
import importlib.machinery
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT_HOOK = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if type(finder).__name__ != "TorchvisionFinder"]
"""


def python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)


def torchvision_is_sound() -> bool:
    return python(WITHOUT_HOOK + "import torchvision").returncode == 0


def test_torchvision_imports_in_a_process_that_never_names_our_package() -> None:
    done = python("import torchvision.transforms.v2 as v2, torchvision; print(torchvision.__version__, v2.Resize)")
    assert done.returncode == 0, done.stderr
    assert "Resize" in done.stdout


def test_without_the_hook_the_import_dies() -> None:
    if torchvision_is_sound():
        pytest.skip("this torchvision fits this torch")
    assert "torchvision::nms does not exist" in python(WITHOUT_HOOK + "import torchvision").stderr


def test_both_schemas_are_declared_where_they_are_missing() -> None:
    if torchvision_is_sound():
        pytest.skip("this torchvision fits this torch")
    done = python(
        "import torch, torchvision\n"
        "print(torch._C._dispatch_has_kernel_for_dispatch_key('torchvision::nms', 'CPU'))\n"
        "print(torch.ops.torchvision.nms.default._schema)\n"
        "print(torch.ops.torchvision.qnms.default._schema)"
    )
    arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    assert done.stdout.splitlines() == ["False", f"torchvision::nms{arguments}", f"torchvision::qnms{arguments}"]


def declared(before: str, directory: Path) -> str:
    """What the hook declares in a fresh process, after some preparation."""
    done = python(
        f"import torch\n{before}\n"
        "from residency.platform.torchvision_hook import declare_missing_operators\n"
        f"print(sorted(declare_missing_operators({str(directory)!r})))"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_package_without_compiled_operators_gets_both(tmp_path: Path) -> None:
    assert declared("torch.version.cuda = None", tmp_path) == "['nms', 'qnms']"


def test_a_cuda_torch_is_left_alone(tmp_path: Path) -> None:
    assert declared("torch.version.cuda = '13.0'", tmp_path) == "[]"


def test_a_package_whose_operators_load_is_left_alone(tmp_path: Path) -> None:
    # any library that the loader accepts stands for compiled operators that fit this torch
    library = Path(_json.__file__)
    shutil.copy(library, tmp_path / f"_C{importlib.machinery.EXTENSION_SUFFIXES[0]}")
    assert declared("torch.version.cuda = None", tmp_path) == "[]"


def test_operators_that_exist_are_not_declared_again(tmp_path: Path) -> None:
    before = (
        "torch.version.cuda = None\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')"
    )
    assert declared(before, tmp_path) == "['qnms']"


def test_other_imports_pass_by_and_the_hook_is_installed_once() -> None:
    done = python(
        "import sys\n"
        "from residency.platform.torchvision_hook import TorchvisionFinder, install\n"
        "install()\n"
        "finders = [finder for finder in sys.meta_path if isinstance(finder, TorchvisionFinder)]\n"
        "print(len(finders), finders[0].find_spec('json', None, None), 'torch' in sys.modules)"
    )
    assert done.stdout.strip() == "1 None False", done.stderr
