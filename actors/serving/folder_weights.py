"""New weights for a running engine, out of a model folder: vLLM's weight-transfer engine ``residency_folder``.

It loads as the object-store engine does; only the tensors' way here differs: each rank reads them from the folder
while it loads, one at a time, so that a folder larger than the memory passes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vllm.distributed.weight_transfer.base import WeightTransferUpdateInfo
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

from residency.actors.ray_object_store import RayObjectStoreEngine
from residency.actors.serving.engine_settings import WEIGHTS_BACKEND
from residency.platform.errors import WeightUpdateError
from residency.training.folder_tensors import folder_shapes, folder_tensors


@dataclass
class FolderUpdateInfo(WeightTransferUpdateInfo):
    """The folder whose weights are to be loaded."""

    folder: str


class FolderEngine(RayObjectStoreEngine):
    """Check the folder's tensors in ``update_weights``, read and load them in ``finish_weight_update``."""

    update_info_cls = cast(Any, FolderUpdateInfo)

    def receive_weights(self, update_info: Any) -> None:
        """Raises WeightUpdateError where a name or a shape differs. Nothing is touched yet."""
        folder = Path(update_info.folder)
        if folder_shapes(folder) != self._expected:
            raise WeightUpdateError(
                f"the tensors of {folder} are not those of the model that runs", "weights of the same layout"
            )
        self._verified = cast(Any, folder_tensors(folder))


class FolderVerbs:
    """Mixed into vLLM's worker only so that each rank's process imports this file, and so knows the backend."""


if WEIGHTS_BACKEND not in WeightTransferEngineFactory._registry:  # the factory refuses a second registration
    WeightTransferEngineFactory.register_engine(WEIGHTS_BACKEND, __name__, FolderEngine.__name__)
