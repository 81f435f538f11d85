"""Weights as flat buckets: what the learner stages, the publisher owns and the generator checks.

A bucket is one uint8 buffer of at most ``bucket_bytes``; its spec says which tensor lies where and carries the digest
of the whole buffer. A manifest is a version and its buckets' specs; the buffers travel beside it by reference.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from residency.platform.errors import WeightUpdateError
from residency.platform.records import PolicyVersion

ALIGNMENT_BYTES = 64
DEFAULT_BUCKET_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSlot:
    """Where one tensor lies in its bucket. ``dtype`` is torch's name without the prefix (``float32``)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BucketSpec:
    slots: tuple[TensorSlot, ...]
    num_bytes: int
    digest: str  # BLAKE2b-128 of the buffer, hex


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsManifest:
    """One version of the weights. ``label`` is for people and for caches: ``sft``, ``rl@30``."""

    version: PolicyVersion
    label: str
    buckets: tuple[BucketSpec, ...]

    @property
    def num_bytes(self) -> int:
        return sum(bucket.num_bytes for bucket in self.buckets)


def digest(buffer: np.ndarray) -> str:
    """BLAKE2b-128 of a contiguous uint8 buffer, in hex."""
    return hashlib.blake2b(buffer.data, digest_size=16).hexdigest()


def _slots(tensors: Sequence[tuple[str, torch.Tensor]]) -> tuple[tuple[TensorSlot, ...], int]:
    slots, offset = [], 0
    for name, tensor in tensors:
        num_bytes = tensor.numel() * tensor.element_size()
        slots.append(
            TensorSlot(
                name=name,
                dtype=str(tensor.dtype).removeprefix("torch."),
                shape=tuple(tensor.shape),
                offset=offset,
                num_bytes=num_bytes,
            )
        )
        offset += -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return tuple(slots), offset


def plan_buckets(
    tensors: Iterable[tuple[str, torch.Tensor]], bucket_bytes: int = DEFAULT_BUCKET_BYTES
) -> Iterator[list[tuple[str, torch.Tensor]]]:
    """Split named tensors, in order, into lists that fit a bucket; a tensor larger than a bucket stands alone."""
    bucket: list[tuple[str, torch.Tensor]] = []
    size = 0
    for name, tensor in tensors:
        num_bytes = tensor.numel() * tensor.element_size() + ALIGNMENT_BYTES
        if bucket and size + num_bytes > bucket_bytes:
            yield bucket
            bucket, size = [], 0
        bucket.append((name, tensor))
        size += num_bytes
    if bucket:
        yield bucket


def pack_bucket(
    tensors: Sequence[tuple[str, torch.Tensor]], staging: np.ndarray | None = None
) -> tuple[BucketSpec, np.ndarray]:
    """Copy tensors into one uint8 buffer (``staging`` is reused where it is large enough); returns spec and buffer."""
    slots, num_bytes = _slots(tensors)
    buffer = (
        staging[:num_bytes] if staging is not None and staging.nbytes >= num_bytes else np.zeros(num_bytes, np.uint8)
    )
    for slot, (_, tensor) in zip(slots, tensors, strict=True):
        flat = tensor.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
        torch.from_numpy(buffer[slot.offset : slot.offset + slot.num_bytes]).copy_(flat)
        padding_end = slot.offset + -(-slot.num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        buffer[slot.offset + slot.num_bytes : padding_end] = 0
    return BucketSpec(slots=slots, num_bytes=num_bytes, digest=digest(buffer)), buffer


def unpack_bucket(spec: BucketSpec, buffer: np.ndarray, where: str) -> list[tuple[str, torch.Tensor]]:
    """Views of a bucket's tensors, without a copy; WeightUpdateError where size or digest differ from the spec."""
    arrived = digest(buffer)
    if buffer.nbytes != spec.num_bytes or arrived != spec.digest:
        raise WeightUpdateError(
            f"{where}: the bucket of {spec.slots[0].name} … {spec.slots[-1].name} arrived with digest {arrived[:8]}…"
            f" and {buffer.nbytes} bytes",
            f"digest {spec.digest[:8]}… and {spec.num_bytes} bytes",
            "the update was refused; publish the weights again",
        )
    tensors = []
    for slot in spec.slots:
        flat = torch.frombuffer(
            buffer.data[slot.offset : slot.offset + slot.num_bytes], dtype=getattr(torch, slot.dtype)
        )
        tensors.append((slot.name, flat.view(slot.shape)))
    return tensors
