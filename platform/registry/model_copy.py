"""A model's files, copied into a registry and digested on the way: what was examined is what will be served."""

import json
import os
from collections.abc import Iterable
from hashlib import file_digest, sha256
from pathlib import Path

from residency.platform.errors import ModelError
from residency.platform.registry.versions import ModelFiles
from residency.platform.run_folder import storage_errors

CHUNK = 8 * 2**20  # bytes
WEIGHTS = ".safetensors"
NOT_LAYOUT = ("README.md", "model.safetensors.index.json")  # how tensors are spread over files is no matter


def copy_model(source: Path, target: Path) -> ModelFiles:
    """Copies the files of a model folder (not its sub-folders, which hold optimizer states) and syncs them.

    The digests are of the bytes that were written. Raises ModelError for a folder without weights as safetensors,
    StorageError for a full disk.
    """
    with storage_errors(target):
        target.mkdir(parents=True)
        files = {path.name: _copy_file(path, target / path.name) for path in model_files(source)}
        sync_folder(target)
    return described(target, files)


def read_model(folder: Path) -> ModelFiles:
    """Digests of a model folder as it is now."""
    files: dict[str, str] = {}
    for path in model_files(folder):
        with path.open("rb") as file:
            files[path.name] = file_digest(file, "sha256").hexdigest()
    return described(folder, files)


def check_model(folder: Path, wanted: ModelFiles, version: str) -> None:
    """Raises ModelError where the files are not those that were promoted."""
    if not folder.is_dir():
        raise ModelError(
            f"{folder}, the weights of {version}, is gone", "the files that were promoted", "restore the folder"
        )
    found = read_model(folder).files
    other = sorted(name for name in found.keys() | wanted.files.keys() if found.get(name) != wanted.files.get(name))
    if other:
        raise ModelError(
            f"{folder} was changed after it was promoted as {version}: {', '.join(other)}",
            "the files that were promoted",
            "restore them, or promote the checkpoint as a version of its own",
        )


def model_files(folder: Path) -> list[Path]:
    """The files of a model in the order of their names."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not any(path.suffix == WEIGHTS for path in found):
        raise ModelError(
            f"{folder} has no {WEIGHTS} file", "weights as safetensors", "save the model again with save_pretrained"
        )
    return found


def described(folder: Path, files: dict[str, str]) -> ModelFiles:
    """The digests of the whole from those of its files."""
    tensors = [line for name in sorted(files) if name.endswith(WEIGHTS) for line in tensor_lines(folder / name)]
    rest = [f"{name} {sha}" for name, sha in files.items() if not name.endswith(WEIGHTS) and name not in NOT_LAYOUT]
    return ModelFiles(
        files=files,
        digest=_sha(f"{name} {sha}" for name, sha in files.items()),
        layout=_sha([*sorted(tensors), *sorted(rest)]),
    )


def tensor_lines(path: Path) -> list[str]:
    """``name dtype shape`` of each tensor, from the header of a safetensors file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= path.stat().st_size:
            raise ModelError(f"{path} is no safetensors file", "weights as safetensors", "copy the model folder again")
        try:
            header = json.loads(file.read(size))
        except ValueError as error:
            raise ModelError(f"{path} has a broken header", "weights as safetensors", "copy it again") from error
    return [f"{name} {about['dtype']} {about['shape']}" for name, about in header.items() if name != "__metadata__"]


def sync_folder(folder: Path) -> None:
    """Names that were made or changed in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_file(source: Path, target: Path) -> str:
    digest = sha256()
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(CHUNK):
            digest.update(chunk)
            writing.write(chunk)
        writing.flush()
        os.fsync(writing.fileno())
    return digest.hexdigest()


def _sha(lines: Iterable[str]) -> str:
    return sha256("\n".join(lines).encode()).hexdigest()
