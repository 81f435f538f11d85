"""vLLM's weight-transfer engine for weights that lie in Ray's object store (backend ``ray_object_store``).

The buckets are pulled in the process of the engine's worker, without a copy where the store is on the same node. Size
and digest of every bucket, and name and shape of every tensor, are checked before the first tensor is touched: an
update that is refused leaves the old weights serving.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import ray
import torch
from ray.exceptions import GetTimeoutError, ObjectLostError
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from residency.platform.errors import DeadlineError, WeightUpdateError
from residency.training.folder_tensors import folder_shapes
from residency.training.weight_buckets import WeightsManifest, unpack_bucket

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.config.weight_transfer import WeightTransferConfig

BACKEND = "ray_object_store"
TIED_HEAD = "lm_head.weight"


@dataclass
class StoreInitInfo(WeightTransferInitInfo):
    """Nothing to agree on: any process of the cluster can pull."""


@dataclass
class StoreUpdateInfo(WeightTransferUpdateInfo):
    """One whole version: its manifest and the buckets' references, in the manifest's order."""

    manifest: WeightsManifest
    bucket_refs: Sequence["ray.ObjectRef[np.ndarray]"]
    deadline_seconds: float  # of the pull
    seconds: dict[str, float] = field(default_factory=dict)  # filled: pull, verify, load


def pull_buckets(info: StoreUpdateInfo) -> list[np.ndarray]:
    """The buckets as read-only views of the node's store; names version and cause where they do not come."""
    manifest = info.manifest
    if len(info.bucket_refs) != len(manifest.buckets):
        raise WeightUpdateError(
            f"{len(info.bucket_refs)} bucket references for weights {manifest.label} ({manifest.version})",
            f"{len(manifest.buckets)}, as the manifest says",
        )
    try:
        return ray.get(list(info.bucket_refs), timeout=info.deadline_seconds)
    except GetTimeoutError as error:
        raise DeadlineError(
            f"the object store did not hand over weights {manifest.label} ({manifest.num_bytes} bytes)"
            f" within {info.deadline_seconds:.0f} s",
            "all buckets before the deadline",
            "see whether the publisher's node is alive and not short of memory",
        ) from error
    except ObjectLostError as error:
        raise WeightUpdateError(
            f"buckets of weights {manifest.label} ({manifest.version}) are gone: {str(error).splitlines()[0]}",
            "objects that their owner, the publisher, still holds",
            "publish the weights again, or load the last checkpoint",
        ) from error


def check_names(manifest: WeightsManifest, expected: dict[str, tuple[int, ...]], mapper: Any, tied_head: bool) -> None:
    """Every tensor of the model, in its shape, once. vLLM's ``mapper`` accepts old and new checkpoint names."""

    def canonical(shapes: Sequence[tuple[str, tuple[int, ...]]]) -> Counter[tuple[str, tuple[int, ...]]]:
        kept = [(name, shape) for name, shape in shapes if not (tied_head and name == TIED_HEAD)]
        return Counter(((mapper.map_name(name) if mapper else name) or name, shape) for name, shape in kept)

    given = canonical([(slot.name, slot.shape) for bucket in manifest.buckets for slot in bucket.slots])
    wanted = canonical(list(expected.items()))
    if given != wanted:
        missing, unexpected = sorted((wanted - given).elements()), sorted((given - wanted).elements())
        raise WeightUpdateError(
            f"weights {manifest.label} ({manifest.version}) do not fit the model:"
            f" {len(missing)} tensors missing {missing[:4]}, {len(unexpected)} unexpected {unexpected[:4]}",
            f"the {wanted.total()} tensors of the model's own checkpoint, each once",
            "publish a checkpoint of the same architecture, whole",
        )


class RayObjectStoreEngine(WeightTransferEngine[StoreInitInfo, StoreUpdateInfo]):
    """Pull, verify, then load layer by layer through vLLM's own reload."""

    init_info_cls = StoreInitInfo
    update_info_cls = StoreUpdateInfo

    def __init__(
        self, config: "WeightTransferConfig", vllm_config: "VllmConfig", device: torch.device, model: torch.nn.Module
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        configs = (self.model_config.hf_config, self.model_config.hf_text_config)
        self._tied_head = any(getattr(config, "tie_word_embeddings", False) for config in configs)
        self._expected = folder_shapes(Path(self.model_config.model))
        self._reloading = False

    def init_transfer_engine(self, init_info: StoreInitInfo) -> None:
        """No rendezvous: the references in each update are enough."""

    def start_weight_update(self) -> None:
        """Nothing yet: the reload takes the model apart, and that waits until the buckets are verified."""

    def receive_weights(self, update_info: StoreUpdateInfo) -> None:
        """Raises WeightUpdateError or DeadlineError before anything is touched; any later error leaves no model."""
        manifest, seconds = update_info.manifest, update_info.seconds
        started = time.perf_counter()
        buffers = pull_buckets(update_info)
        pulled = time.perf_counter()
        mapper = getattr(self.model, "hf_to_vllm_mapper", None)
        check_names(manifest, self._expected, mapper, self._tied_head)
        tensors = [
            tensor
            for spec, buffer in zip(manifest.buckets, buffers, strict=True)
            for tensor in unpack_bucket(spec, buffer, f"weights {manifest.label} ({manifest.version})")
        ]
        verified = time.perf_counter()
        self._reloading = True
        initialize_layerwise_reload(self.model)
        cast(Any, self.model).load_weights(iter(tensors))
        seconds |= {"pull": pulled - started, "verify": verified - pulled, "load": time.perf_counter() - verified}

    def finish_weight_update(self) -> None:
        if not self._reloading:
            return
        finalize_layerwise_reload(self.model, self.model_config)
        if self._tied_head:
            # A tied head loads nothing of its own, so the reload passes it by; but on CPU it computes with a repacked
            # copy of the embedding, which would go on answering with the old weights.
            for module in self.model.modules():
                if isinstance(module, ParallelLMHead):
                    module.quant_method.process_weights_after_loading(module)
        self._reloading = False

    def shutdown(self) -> None:
        """No resources of its own: the views die with the buffers."""


def register() -> None:
    """Make the backend known to vLLM in this process; safe to repeat."""
    if BACKEND not in WeightTransferEngineFactory._registry:  # the factory refuses a second registration
        WeightTransferEngineFactory.register_engine(BACKEND, __name__, RayObjectStoreEngine.__name__)
