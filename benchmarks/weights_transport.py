"""Weights on their way from a learner's filled staging buffers to views in other processes, against memcpy."""

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import ray
from node_store import store_bytes
from weights_roles import DEADLINE_SECONDS, GB, answer, say, start, timed

RECEIVERS = (1, 2, 4)
DICT_ENTRIES = 256
LIGHT_BYTES = 128 * 1024  # of a bucket of next to nothing: more than Ray sends inside its replies
SLACK_BYTES = 2**20  # small objects of Ray's and of the buckets' headers
FREED_SECONDS = 60.0


class StagedLearner:
    """Stands where learner rank 0 stands with its staging filled: what is measured begins there."""

    def __init__(self, num_bytes: int, bucket_bytes: int) -> None:
        from residency.training.weight_buckets import Staging

        generator = np.random.default_rng(0)
        self._digester = Staging()
        self._staging = [generator.integers(0, 255, min(bucket_bytes, num_bytes), dtype=np.uint8) for _ in range(2)]
        self._rests = [min(bucket_bytes, num_bytes - start) for start in range(0, num_bytes, bucket_bytes)]

    def publish_weights(self, label: str) -> Iterator[Any]:
        from residency.platform.records import PolicyVersion
        from residency.training.weight_buckets import BucketSpec, TensorSlot

        for number, size in enumerate(self._rests):
            buffer = self._staging[number % 2][:size]
            slot = TensorSlot(name=f"bucket{number}", dtype="uint8", shape=(size,), offset=0, num_bytes=size)
            self._digester.start_digest(buffer)
            yield BucketSpec(slots=(slot,), num_bytes=size)
            yield buffer
        yield PolicyVersion(incarnation=0, step=int(label)), self._digester.digests()


class DictLearner:
    """Equal arrays in a dict, as they come out of a ``state_dict``."""

    def __init__(self, num_bytes: int) -> None:
        self._arrays = {str(n): np.full(num_bytes // DICT_ENTRIES // 4, n, np.float32) for n in range(DICT_ENTRIES)}

    def put_dict(self, kind: str) -> list[Any]:
        import torch

        return [ray.put({n: a if kind == "numpy" else torch.from_numpy(a) for n, a in self._arrays.items()})]


class Receiver:
    """A plain process that takes weights."""

    def __init__(self) -> None:
        self._manifest: Any = None
        self._views: list[np.ndarray] = []

    def pull(self, manifest: Any, refs: Sequence[Any]) -> int:
        from residency.actors.rank_buckets import pull_buckets

        self._manifest, self._views = manifest, pull_buckets(manifest, refs, DEADLINE_SECONDS)
        return sum(view.nbytes for view in self._views)

    def verify(self) -> int:
        from residency.training.weight_buckets import unpack_bucket

        return sum(len(unpack_bucket(*each, "")) for each in zip(self._manifest.buckets, self._views, strict=True))

    def forget(self) -> None:
        self._views, self._manifest = [], None

    def take_dict(self, refs: list[Any]) -> int:
        return len(answer(refs[0]))


def memcpy_seconds(num_bytes: int, source: np.ndarray, target: np.ndarray) -> float:
    """One thread's copy of so many bytes; more than the arrays hold are copied in several goes."""

    def copy() -> None:
        for offset in range(0, num_bytes, source.nbytes):
            size = min(source.nbytes, num_bytes - offset)
            np.copyto(target[:size], source[:size])

    return timed(copy)


def send(learner: Any, publisher: Any, receivers: Sequence[Any], label: str) -> dict[str, float]:
    """One version to these receivers; seconds by part, and of all until they have it and checked it."""
    began = time.perf_counter()
    manifest, refs = answer(publisher.collect.remote([learner], label, DEADLINE_SECONDS))
    published = time.perf_counter()
    pulled = answer([receiver.pull.remote(manifest, refs) for receiver in receivers])
    viewed = time.perf_counter()
    assert pulled == [manifest.num_bytes] * len(receivers)
    answer([receiver.verify.remote() for receiver in receivers])
    row = {"learner": published - began, "pull": viewed - published, "transport": viewed - began}
    row |= {"verified": time.perf_counter() - began, **manifest.seconds}
    del refs
    answer([receiver.forget.remote() for receiver in receivers])
    return row


def wait_until_freed(held: int) -> None:
    """Until nothing but the newest versions is in the store: Ray frees in the background, and a run's updates are far
    enough apart for it. Without this wait the store must hold a third version, and 4 GB took seconds to pull."""
    deadline = time.monotonic() + FREED_SECONDS
    while (used := store_bytes()) > held + SLACK_BYTES:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{used} bytes in the store {FREED_SECONDS} s after all let go, {held} wanted")
        time.sleep(0.05)


def measure_transport(num_bytes: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds of one size; the first rounds touch the store's pages and do not count."""
    from residency.actors.publisher import start_publisher
    from residency.training.weight_buckets import DEFAULT_BUCKET_BYTES

    receivers = [start(Receiver) for _ in range(max(RECEIVERS))]
    answer([receiver.forget.remote() for receiver in receivers])
    num_buckets = -(-num_bytes // DEFAULT_BUCKET_BYTES)
    # a publisher each: the version before stays in the store until the next is there, as in a run
    full = start(StagedLearner, num_bytes, DEFAULT_BUCKET_BYTES), start_publisher(cpus=0)
    light = start(StagedLearner, num_buckets * LIGHT_BYTES, LIGHT_BYTES), start_publisher(cpus=0)
    source = np.random.default_rng(1).integers(0, 255, min(num_bytes, GB), dtype=np.uint8)
    target = source.copy()
    taken: dict[int, list[dict[str, float]]] = {number: [] for number in RECEIVERS}
    copies: list[float] = []
    labels = count(1)
    for turn in range(rounds + 2):
        copies.append(memcpy_seconds(num_bytes, source, target))
        for number in RECEIVERS:
            row = send(*full, receivers[:number], str(next(labels)))
            row["fixed"] = send(*light, receivers[:number], str(next(labels)))["transport"]
            wait_until_freed(num_bytes + num_buckets * LIGHT_BYTES)
            if turn >= 2:
                taken[number].append(row)
    memcpy = statistics.median(copies[2:])
    figures: dict[str, Any] = {"gb": num_bytes / GB, "memcpy_gb_s": num_bytes / GB / memcpy, "receivers": {}}
    for number, rows in taken.items():
        seconds = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        ratios = {"ratio": memcpy / seconds["transport"], "ratio_with_verify": memcpy / seconds["verified"]}
        figures["receivers"][number] = {name: round(value, 4) for name, value in {**seconds, **ratios}.items()}
    learner_seconds = [figures["receivers"][number]["learner"] for number in RECEIVERS]
    figures["learner_most_over_least"] = round(max(learner_seconds) / min(learner_seconds), 3)
    for actor in (*full, *light):
        ray.kill(actor)
    if num_bytes <= GB:
        holder = start(DictLearner, num_bytes)
        for kind in ("numpy", "torch"):

            def by_dict(kind: str = kind) -> None:
                answer(receivers[0].take_dict.remote(answer(holder.put_dict.remote(kind))))

            figures[f"{kind}_dict_ratio"] = round(memcpy / statistics.median(timed(by_dict) for _ in range(3)), 4)
        ray.kill(holder)
    for receiver in receivers:
        ray.kill(receiver)
    say(f"transport {figures}")
    return figures
