"""Weight buckets on their way into an engine: pulled from the object store, then shared among its ranks.

The ranks of an engine of several are processes of vLLM's own and no Ray workers, so they cannot pull. Their engine's
process does, and writes one copy that every rank maps. It is an anonymous file in memory (``memfd``): no name that
could be left behind, no limit of ``/dev/shm``; the kernel frees it with the last process that holds it, whoever dies.
"""

import mmap
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import ray
from ray.exceptions import ObjectLostError

from residency.platform.errors import WeightUpdateError
from residency.training.update_phases import late
from residency.training.weight_buckets import WeightsManifest

MEMORY_NAME = "residency-weights"  # how the kernel lists it among a process' open files


def pull_buckets(
    manifest: WeightsManifest, bucket_refs: "Sequence[ray.ObjectRef[np.ndarray]]", seconds: float
) -> list[np.ndarray]:
    """The buckets as read-only views of the node's store; names version and cause where they do not come."""
    if len(bucket_refs) != len(manifest.buckets):
        raise WeightUpdateError(
            f"{len(bucket_refs)} bucket references for weights {manifest.label} ({manifest.version})",
            f"{len(manifest.buckets)}, as the manifest says",
        )
    buckets = [ref.future() for ref in bucket_refs]  # ray.get warns in every actor that has an event loop
    if wait(buckets, timeout=seconds).not_done:
        note = f" ({manifest.num_bytes} bytes from the object store)"
        raise late("its engine", "pull", manifest.label, seconds, note)
    try:
        return [bucket.result() for bucket in buckets]
    except ObjectLostError as error:
        raise WeightUpdateError(
            f"buckets of weights {manifest.label} ({manifest.version}) are gone: {str(error).splitlines()[0]}",
            "objects that their owner, the publisher, still holds",
            "publish the weights again, or load the last checkpoint",
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedBuckets:
    """Where buckets lie, one after the other; small enough to be sent to each rank."""

    path: str
    sizes: tuple[int, ...]  # bytes of each bucket

    def views(self) -> list[np.ndarray]:
        """The buckets as read-only uint8 views of shared memory, in any process of this user on the node."""
        try:
            memory = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise WeightUpdateError(
                f"a rank could not open the shared buckets at {self.path}: {error.strerror}",
                "the engine's process alive, with the same user and process namespace as its ranks",
            ) from error
        try:
            whole = mmap.mmap(memory, sum(self.sizes), prot=mmap.PROT_READ)
        finally:
            os.close(memory)  # the mapping stays until the last view goes
        offsets = np.cumsum((0, *self.sizes))[:-1]
        return [
            np.frombuffer(whole, np.uint8, size, int(offset)) for size, offset in zip(self.sizes, offsets, strict=True)
        ]


@contextmanager
def shared_buckets(buffers: Sequence[np.ndarray]) -> Iterator[SharedBuckets]:
    """One copy of the buffers for all ranks; who has mapped it by the end of the block may go on reading.

    WeightUpdateError where the node's memory cannot take it.
    """
    with os.fdopen(os.memfd_create(MEMORY_NAME, os.MFD_CLOEXEC), "wb", buffering=0) as memory:
        try:
            os.posix_fallocate(memory.fileno(), 0, sum(buffer.nbytes for buffer in buffers))
            for buffer in buffers:
                rest = buffer.data
                while rest:  # Linux writes at most 2 GiB at once
                    rest = rest[memory.write(rest) :]
        except OSError as error:
            raise WeightUpdateError(
                f"{sum(buffer.nbytes for buffer in buffers)} bytes of buckets did not fit into shared memory:"
                f" {error.strerror}",
                "memory for one more copy of the weights on the engine's node",
                "give the node more memory, or the engine fewer neighbours",
            ) from error
        yield SharedBuckets(
            path=f"/proc/{os.getpid()}/fd/{memory.fileno()}", sizes=tuple(buffer.nbytes for buffer in buffers)
        )
