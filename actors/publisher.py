"""The publisher owns published weights: its objects outlive the learner that packed them."""

import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from residency.platform.errors import DeadlineError, RoleError
from residency.platform.records import PolicyVersion
from residency.training.folder_tensors import folder_tensors
from residency.training.weight_buckets import DEFAULT_BUCKET_BYTES, WeightsManifest, pack_bucket, plan_buckets

Published = tuple[WeightsManifest, list["ray.ObjectRef[np.ndarray]"]]


class PublisherActor:
    """Keeps the buckets alive of the last ``keep`` versions, and of those that somebody was said to need (``retain``).

    Engines pull straight from the node that holds the data. An object is freed once the publisher has let go of it and
    no reference is held elsewhere: one that is on its way to a generator ends its way.

    Ray gives an object to whoever *called* the task that returned it. So the publisher calls the learner, and the
    learner's buckets are the publisher's from their first byte: they stay where they were packed, without a second
    copy, and the learner may die.
    """

    def __init__(self, keep: int = 3) -> None:
        self._keep = keep
        self._published: OrderedDict[PolicyVersion, Published] = OrderedDict()
        self._in_use: frozenset[PolicyVersion] = frozenset()

    def collect(self, learners: Sequence[Any], label: str, deadline_seconds: float) -> Published:
        """Gather one version from a learner group: handles of all its ranks, rank 0 first.

        Each rank has a generator method ``publish_weights(label)``, called on all ranks at once because gathering is
        collective. Rank 0 yields its buckets (uint8 arrays; its staging may be used again after each yield), then the
        WeightsManifest; the others yield nothing. RoleError or the rank's own error where one fails.
        """
        deadline = time.monotonic() + deadline_seconds
        streams = [learner.publish_weights.options(num_returns="streaming").remote(label) for learner in learners]
        *bucket_refs, manifest_ref = _drain(streams, deadline)[0]
        manifest = ray.get(manifest_ref)
        if not isinstance(manifest, WeightsManifest) or len(manifest.buckets) != len(bucket_refs):
            raise RoleError(
                f"learner rank 0 published {len(bucket_refs)} buckets and then {type(manifest).__name__}",
                "as many buckets as its manifest names, then the manifest",
            )
        return self._adopt(manifest, bucket_refs)

    def publish_folder(
        self, model_dir: str, version: PolicyVersion, label: str, bucket_bytes: int = DEFAULT_BUCKET_BYTES
    ) -> Published:
        """Publish the weights of a Hugging Face folder that this actor's node can read."""
        specs, refs = [], []
        for tensors in plan_buckets(folder_tensors(Path(model_dir)), bucket_bytes):
            spec, buffer = pack_bucket(tensors)
            specs.append(spec)
            refs.append(ray.put(buffer))
        return self._adopt(WeightsManifest(version=version, label=label, buckets=tuple(specs)), refs)

    def latest(self) -> Published | None:
        """The version that was published last, for who joins late; None before the first."""
        return next(reversed(self._published.values()), None)

    def retain(self, in_use: Collection[PolicyVersion]) -> list[PolicyVersion]:
        """Keep the versions that some generator has or is being sent, whatever their age, until told anew.

        All of them each time, so that a generator that died needs no farewell. Returns what is held, oldest first.
        """
        self._in_use = frozenset(in_use)
        self._let_go()
        return list(self._published)

    def versions(self) -> list[PolicyVersion]:
        """Versions that are held, oldest first; an answer also says that the publisher lives."""
        return list(self._published)

    def _adopt(self, manifest: WeightsManifest, bucket_refs: "list[ray.ObjectRef[np.ndarray]]") -> Published:
        self._published.pop(manifest.version, None)  # published again: replaced, and now the latest
        self._published[manifest.version] = (manifest, bucket_refs)
        self._let_go()
        return manifest, bucket_refs

    def _let_go(self) -> None:
        for version in list(self._published)[: -self._keep]:
            if version not in self._in_use:
                del self._published[version]


def _drain(streams: Sequence[Any], deadline: float) -> list[list[Any]]:
    """References of all that each rank yields, in rank order. The first rank that fails raises, whoever else waits."""
    refs: list[list[Any]] = [[] for _ in streams]
    ranks = {stream: rank for rank, stream in enumerate(streams)}
    while ranks:
        ready, _ = ray.wait(list(ranks), timeout=max(0.0, deadline - time.monotonic()), fetch_local=False)
        if not ready:
            late = ", ".join(f"{rank} (after {len(refs[rank])} objects)" for rank in ranks.values())
            raise DeadlineError(
                f"learner ranks {late} had not ended when the deadline came",
                "all weights gathered before the deadline",
                "raise deadline_seconds in the profile, or see those ranks' logs",
            )
        stream: Any = ready[0]  # a stream, though Ray's types speak of plain references
        try:
            refs[ranks[stream]].append(next(stream))
        except StopIteration:
            del ranks[stream]
            ray.get(stream.completed())  # the rank's own error, if it ended by one
    return refs


def start_publisher(cpus: float = 0.05, keep: int = 3, **options: Any) -> Any:
    """Handle of a new publisher actor; ``options`` are Ray's. It has no restarts: what it owned dies with it."""
    return ray.remote(PublisherActor).options(num_cpus=cpus, **options).remote(keep=keep)
