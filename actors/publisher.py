"""The publisher owns published weights: its objects outlive the learner that packed them."""

import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from residency.platform.errors import RoleError
from residency.platform.records import PolicyVersion
from residency.training.folder_tensors import folder_tensors
from residency.training.update_phases import late, phase_deadlines
from residency.training.weight_buckets import DEFAULT_BUCKET_BYTES, BucketSpec, Staging, WeightsManifest, plan_buckets

Published = tuple[WeightsManifest, list["ray.ObjectRef[np.ndarray]"]]


class PublisherActor:
    """Keeps the buckets alive of the last ``keep`` versions, and of those that somebody was said to need (``retain``).

    Engines pull straight from the node that holds the data. An object is freed once the publisher has let go of it and
    no reference is held elsewhere: one that is on its way to a generator ends its way.

    Ray gives an object to whoever *called* the task that returned it. So the publisher calls the learner, and the
    learner's buckets are the publisher's from their first byte: they stay where they were packed, without a second
    copy, and the learner may die.
    """

    def __init__(self, keep: int = 1) -> None:
        self._keep = keep
        self._published: OrderedDict[PolicyVersion, Published] = OrderedDict()
        self._in_use: frozenset[PolicyVersion] = frozenset()

    def collect(self, learners: Sequence[Any], label: str, deadline_seconds: float) -> Published:
        """Gather one version from a learner group: handles of all its ranks, rank 0 first.

        Each rank has a generator method ``publish_weights(label)``, called on all ranks at once because gathering is
        collective. Rank 0 yields what ``weight_buckets.staged`` does, the others nothing. RoleError or the rank's own
        error where one fails; ``deadline_seconds`` is of a whole update, gather and put have their shares of it.
        """
        streams = [learner.publish_weights.options(num_returns="streaming").remote(label) for learner in learners]
        refs, seconds = _drain(streams, label, phase_deadlines(deadline_seconds))
        *specs, last = ray.get([*refs[:-1:2], *refs[-1:]]) or [None]
        if not isinstance(last, tuple) or len(refs) != 2 * len(specs) + 1:
            raise RoleError(
                f"learner rank 0 published {len(refs)} objects, the last of them {type(last).__name__}",
                "two of each bucket, then the version and the digests",
            )
        version, digests = last
        return self._adopt(_manifest(version, label, specs, digests, seconds), refs[1::2])

    def publish_folder(
        self, model_dir: str, version: PolicyVersion, label: str, bucket_bytes: int = DEFAULT_BUCKET_BYTES
    ) -> Published:
        """Publish the weights of a Hugging Face folder that this actor's node can read."""
        specs, refs, staging = [], [], Staging()
        for tensors in plan_buckets(folder_tensors(Path(model_dir)), bucket_bytes):
            spec, buffer = staging.stage(tensors)
            specs.append(spec)
            refs.append(ray.put(buffer))
        return self._adopt(_manifest(version, label, specs, staging.digests(), {}), refs)

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


def _manifest(
    version: PolicyVersion,
    label: str,
    specs: Sequence[BucketSpec],
    digests: Sequence[str],
    seconds: Mapping[str, float],
) -> WeightsManifest:
    buckets = tuple(replace(spec, digest=digest) for spec, digest in zip(specs, digests, strict=True))
    return WeightsManifest(version=version, label=label, buckets=buckets, seconds=seconds)


def _drain(streams: Sequence[Any], label: str, deadlines: Mapping[str, float]) -> tuple[list[Any], Mapping[str, float]]:
    """References of all that rank 0 yields, and seconds by phase. The first rank that fails raises, whoever else waits.

    While rank 0 owes a bucket's bytes it is in ``put``, else all ranks are in ``gather``.
    """
    refs: list[Any] = []
    seconds = {"gather": 0.0, "put": 0.0}
    ranks = {stream: rank for rank, stream in enumerate(streams)}
    while ranks:
        phase, began = ("put" if len(refs) % 2 and streams[0] in ranks else "gather"), time.monotonic()
        left = max(0.0, deadlines[phase] - seconds[phase])
        ready, _ = ray.wait(list(ranks), timeout=left, fetch_local=False)
        seconds[phase] += time.monotonic() - began
        if not ready:
            names = [str(rank) for rank in ranks.values()] if phase == "gather" else ["0"]
            who = f"learner rank{'s' if len(names) > 1 else ''} {', '.join(names)}"
            raise late(who, phase, label, deadlines[phase], f", {len(refs) // 2} buckets in the store")
        stream: Any = ready[0]  # a stream, though Ray's types speak of plain references
        try:
            ref = next(stream)
        except StopIteration:
            del ranks[stream]
            ray.get(stream.completed())  # the rank's own error, if it ended by one
        else:
            if ranks[stream] == 0:
                refs.append(ref)
    return refs, seconds


def start_publisher(cpus: float = 0.05, keep: int = 1, **options: Any) -> Any:
    """Handle of a new publisher actor; ``options`` are Ray's. It has no restarts: what it owned dies with it."""
    return ray.remote(PublisherActor).options(num_cpus=cpus, **options).remote(keep=keep)
