"""The files of a version that is to be loaded: whether they are what was promoted, and whether they fit an engine."""

import json
from hashlib import sha256
from pathlib import Path

from residency.platform.errors import ModelError
from residency.platform.registry.model_copy import WEIGHTS, described, model_files, read_model
from residency.platform.serving.serving_state import Version


def layout_of(version: Version) -> str:
    """What must be equal for the version's weights to go into a running engine in place.

    Raises ModelError where the folder's files are not those of the version's digest. Without a digest the weights
    are not read, only their headers.
    """
    folder = Path(version.path)
    if version.digest:
        found = read_model(folder)
        if found.digest != version.digest:
            raise ModelError(
                f"{folder} has the digest {found.digest[:12]}…",
                f"{version.digest[:12]}…, as it was promoted",
                "restore the folder, or promote it as a version of its own",
            )
        layout = found.layout
    else:
        layout = described(folder, {path.name: _digest(path) for path in model_files(folder)}).layout
    return layout if version.adapter is None else f"{layout} {adapter_rank(Path(version.adapter))}"


def adapter_rank(adapter_dir: Path) -> int:
    """The rank of a LoRA adapter's folder; raises ModelError where it is none that can be served."""
    try:
        rank = int(json.loads((adapter_dir / "adapter_config.json").read_text())["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{adapter_dir} is no LoRA adapter ({error})", "a folder that PEFT's save_pretrained wrote"
        ) from error
    if not (adapter_dir / "adapter_model.safetensors").is_file():
        raise ModelError(f"{adapter_dir} has no adapter_model.safetensors", "an adapter's weights as safetensors")
    return rank


def _digest(path: Path) -> str:
    return "" if path.suffix == WEIGHTS else sha256(path.read_bytes()).hexdigest()
