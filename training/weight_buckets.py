"""Weights as flat buckets: what the learner stages, the publisher owns and the generator checks.

A bucket is one uint8 buffer of at most ``bucket_bytes``; its spec says which tensor lies where and carries the digest
of the whole buffer. A manifest is a version and its buckets' specs; the buffers travel beside it by reference.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
import xxhash

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
    digest: str = ""  # of the buffer, as ``digest`` has it; a bucket that is still on its way out has none yet


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsManifest:
    """One version of the weights. ``label`` is for people and for caches: ``sft``, ``rl@30``.

    ``seconds`` is what gathering and putting took; two manifests of the same weights are equal whatever it says.
    """

    version: PolicyVersion
    label: str
    buckets: tuple[BucketSpec, ...]
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def num_bytes(self) -> int:
        return sum(bucket.num_bytes for bucket in self.buckets)


def digest(buffer: np.ndarray) -> str:
    """XXH3-128 of a contiguous uint8 buffer, in hex.

    It must find accidents (a flipped bit, a torn or swapped or stale buffer), and nobody attacks: who could write into
    the object store could write a fitting digest as well. XXH3 passes the usual tests of hash quality (SMHasher), so
    that a damaged bucket passes by chance once in 2^128, and CRC-32's once in 2^32 would be met in a long run. It reads
    as fast as memory (22 GB/s a core where BLAKE2b has 1, SHA-256 with SHA-NI 1.6, CRC-32 2.4 and BLAKE3 7): a slower
    one would take longer than the copy that it checks.
    """
    return xxhash.xxh3_128_hexdigest(buffer.data)


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
        offset += _padded(num_bytes)
    return tuple(slots), offset


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


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


class Staging:
    """The one buffer in which a process packs its buckets, used again for each.

    A bucket's digest is computed in a thread while the bucket is copied into the object store; ``digests`` has them.
    """

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)
        self._thread = ThreadPoolExecutor(1, "bucket-digest")
        self._pending: list[Future[str]] = []

    def stage(self, tensors: Sequence[tuple[str, torch.Tensor]]) -> tuple[BucketSpec, np.ndarray]:
        """Copy tensors into the buffer; the view of it that is returned is good until the next call."""
        slots, num_bytes = _slots(tensors)
        if self._pending:
            self._pending[-1].result()  # it reads what is overwritten now
        if self._buffer.nbytes < num_bytes:
            self._buffer = np.empty(max(num_bytes, DEFAULT_BUCKET_BYTES), np.uint8)
        buffer = self._buffer[:num_bytes]
        for slot, (_, tensor) in zip(slots, tensors, strict=True):
            flat = tensor.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
            end = slot.offset + slot.num_bytes
            torch.from_numpy(buffer[slot.offset : end]).copy_(flat)
            buffer[end : slot.offset + _padded(slot.num_bytes)] = 0
        self.start_digest(buffer)
        return BucketSpec(slots=slots, num_bytes=num_bytes), buffer

    def start_digest(self, buffer: np.ndarray) -> None:
        """In the thread; nobody may write to the buffer until ``digests``, or until the next bucket is staged."""
        self._pending.append(self._thread.submit(digest, buffer))

    def digests(self) -> tuple[str, ...]:
        """Of all buckets since the last call, in order."""
        pending, self._pending = self._pending, []
        return tuple(each.result() for each in pending)


def staged(
    buckets: Iterable[Sequence[tuple[str, torch.Tensor]]], staging: Staging, version: PolicyVersion
) -> Iterator[BucketSpec | np.ndarray | tuple[PolicyVersion, tuple[str, ...]]]:
    """Of each bucket its spec, without a digest, then its bytes; at last the version and the digests of all.

    The spec says that a bucket is gathered, the next item that its bytes are put: a yielded buffer must be copied
    before the next item is asked for.
    """
    staging.digests()  # of a publication that was broken off
    for tensors in buckets:
        spec, buffer = staging.stage(tensors)
        yield spec
        yield buffer
    yield version, staging.digests()


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
