"""vLLM's weight-transfer engine for weights that lie in Ray's object store (backend ``ray_object_store``).

The engine's process pulls the buckets, without a copy where the store is on the same node; each rank checks size and
digest of every bucket, and name and shape of every tensor, before the first tensor is touched. Only when all ranks
have found all of it sound does any of them load: an update that is refused leaves the old weights serving.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from residency.actors.rank_buckets import SharedBuckets
from residency.platform.errors import RoleError, WeightUpdateError
from residency.training.folder_tensors import folder_shapes
from residency.training.weight_buckets import WeightsManifest, unpack_bucket

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.config.weight_transfer import WeightTransferConfig

BACKEND = "ray_object_store"
RANK_VERBS = f"{__name__}.RankVerbs"  # as EngineArgs.worker_extension_cls takes it
TIED_HEAD = "lm_head.weight"


@dataclass
class StoreInitInfo(WeightTransferInitInfo):
    """Nothing to agree on: any process of the cluster can pull."""


@dataclass
class StoreUpdateInfo(WeightTransferUpdateInfo):
    """One whole version: its manifest and the buckets in the manifest's order, here or shared by another process."""

    manifest: WeightsManifest
    buckets: Sequence[np.ndarray] | SharedBuckets


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
    """Verify in ``update_weights``, load layer by layer through vLLM's own reload in ``finish_weight_update``."""

    init_info_cls = StoreInitInfo
    update_info_cls = StoreUpdateInfo

    def __init__(
        self, config: "WeightTransferConfig", vllm_config: "VllmConfig", device: torch.device, model: torch.nn.Module
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        configs = (self.model_config.hf_config, self.model_config.hf_text_config)
        self._tied_head = any(getattr(config, "tie_word_embeddings", False) for config in configs)
        self._expected = folder_shapes(Path(self.model_config.model))
        self._verified: list[tuple[str, torch.Tensor]] | None = None

    def init_transfer_engine(self, init_info: StoreInitInfo) -> None:
        """No rendezvous: the references in each update are enough."""

    def start_weight_update(self) -> None:
        """Nothing yet: the reload takes the model apart, and that waits until the buckets are verified."""
        self._verified = None

    def receive_weights(self, update_info: StoreUpdateInfo) -> None:
        """Hold the verified tensors; WeightUpdateError where they are not sound. Nothing is touched yet."""
        manifest, buckets = update_info.manifest, update_info.buckets
        buffers = buckets.views() if isinstance(buckets, SharedBuckets) else buckets
        mapper = getattr(self.model, "hf_to_vllm_mapper", None)
        check_names(manifest, self._expected, mapper, self._tied_head)
        self._verified = [
            tensor
            for spec, buffer in zip(manifest.buckets, buffers, strict=True)
            for tensor in unpack_bucket(spec, buffer, f"weights {manifest.label} ({manifest.version})")
        ]

    def finish_weight_update(self) -> None:
        """Any error from here on leaves no model."""
        tensors, self._verified = self._verified, None
        if tensors is None:
            return
        initialize_layerwise_reload(self.model)
        cast(Any, self.model).load_weights(iter(tensors))
        finalize_layerwise_reload(self.model, self.model_config)
        if self._tied_head:
            # A tied head loads nothing of its own, so the reload passes it by; but on CPU it computes with a repacked
            # copy of the embedding, which would go on answering with the old weights.
            for module in self.model.modules():
                if isinstance(module, ParallelLMHead):
                    module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        """No resources of its own: the views die with the buffers."""
        self._verified = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RankAnswer:
    """What a rank says of an update: ``refusal`` is why it cannot be loaded."""

    refusal: RoleError | None = None


class RankVerbs:
    """Mixed into vLLM's worker, in each rank's process; that vLLM imports it there makes the backend known there.

    A refusal is an answer and no exception: on its way between processes an exception would lose its type, and leave
    the other ranks' answers lying in their queues, to be taken for answers to the next call.
    """

    def verify_update(self, update: dict[str, Any]) -> RankAnswer:
        """Start an update, map and verify its buckets; ``finish_weight_update`` or ``drop_update`` must follow."""
        worker: Any = self
        worker.start_weight_update()
        try:
            worker.update_weights(update)
        except RoleError as error:
            return RankAnswer(refusal=error)
        return RankAnswer()

    def drop_update(self) -> None:
        """Forget an update that some rank refused."""
        worker: Any = self
        worker.weight_transfer_engine.start_weight_update()
        worker._weight_update_active = False  # vLLM ends an update only by an error or by loading it


if BACKEND not in WeightTransferEngineFactory._registry:  # the factory refuses a second registration
    WeightTransferEngineFactory.register_engine(BACKEND, __name__, RayObjectStoreEngine.__name__)
