"""How weights reach one generator, and which ones it gets when it joins while the run goes on."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from residency.actors.publisher import Published, start_publisher
from residency.platform.cluster import stop_actor, wait_for
from residency.platform.errors import DeadlineError, LostObjectError, RoleError, WeightUpdateError
from residency.platform.records import PolicyVersion
from residency.training.update_phases import LatePhaseError
from residency.training.weight_buckets import WeightsManifest
from residency.training.weights_echo import WeightsEcho


async def send_weights(
    generator: Any,
    who: str,
    manifest: WeightsManifest,
    bucket_refs: Sequence[Any],
    seconds: float,
    **how: Any,
) -> WeightsEcho:
    """The generator's echo, once it proves that exactly these weights answer; WeightUpdateError where it does not.

    ``how`` is ``in_flight=True``, ``abort=True``, ``deadlines=…`` or nothing, as in ``GeneratorActor.update_weights``.
    LatePhaseError names the generator and the phase; ``seconds`` is for one that does not even say that.
    """
    answer = _answer(generator.update_weights.remote(manifest, list(bucket_refs), **how))
    echo = await wait_for(answer, who, f"taking weights {manifest.label}", seconds)
    if isinstance(echo, LatePhaseError):
        raise LatePhaseError(f"{who}: {echo.seen}", echo.wanted, echo.remedy, echo.phase) from echo
    if echo.version != manifest.version or echo.digests != tuple(bucket.digest for bucket in manifest.buckets):
        raise WeightUpdateError(
            f"{who} says that it serves {echo.label} ({echo.version})",
            f"{manifest.label} ({manifest.version}) with the digests of the manifest",
            "start the same command again: it goes on from the last finished stage",
        )
    return echo


async def _answer(echo: Awaitable[WeightsEcho]) -> WeightsEcho | LatePhaseError:
    """A late phase is an answer here: ``wait_for`` would take any TimeoutError for a deadline of its own."""
    try:
        return await echo
    except RayTaskError as error:
        if isinstance(error.cause, LatePhaseError):
            return error.cause
        raise


async def join_generator(
    generator: Any,
    who: str,
    publisher: Any,
    checkpoint: Path,
    checkpoint_version: PolicyVersion,
    events: Callable[..., None],
    seconds: float,
    check: Callable[[str, WeightsEcho], None] | None = None,
) -> PolicyVersion:
    """Bring a generator that has just started up to date; returns the version that answers its first request.

    ``check`` is told who echoed what after each update.

    It gets the publisher's latest weights. Where the publisher is dead, new or late, or the objects are lost, it gets
    the checkpoint's, and the event ``joined_from_checkpoint`` says which version that is and why. A generator that
    already has the wanted version (by its health) is left as it is. ``seconds`` is the deadline of each step. RoleError
    where the generator itself fails.
    """
    has = (await wait_for(generator.health.remote(), who, "saying which weights it has", seconds)).version
    published: Published | None = None
    cause = "nothing has been published yet"
    try:
        published = await wait_for(publisher.latest.remote(), "the publisher", "naming its latest weights", seconds)
    except RoleError as error:
        cause = str(error)
    else:
        if published is None and has == checkpoint_version:
            return has  # the run's first generators: no newer weights than what they were started with
    if published is not None:
        manifest, bucket_refs = published
        if has == manifest.version:
            return has
        try:
            echo = await send_weights(generator, who, manifest, bucket_refs, seconds)
        except (WeightUpdateError, DeadlineError, LostObjectError) as error:  # all else is the generator's own failure
            cause = str(error)
        else:
            if check is not None:
                check(who, echo)
            return manifest.version
    if has != checkpoint_version:
        await _send_checkpoint(generator, who, checkpoint, checkpoint_version, seconds)
    events("joined_from_checkpoint", generator=who, version=str(checkpoint_version), label=checkpoint.name, cause=cause)
    return checkpoint_version


async def _send_checkpoint(generator: Any, who: str, checkpoint: Path, version: PolicyVersion, seconds: float) -> None:
    """By a publisher for this once, on the caller's node, where the run's folder can be read.

    The run's own may be dead; if it lives, an older checkpoint must not become its latest.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    stand_in = start_publisher(cpus=0, scheduling_strategy=here)
    try:
        published = stand_in.publish_folder.remote(str(checkpoint), version, checkpoint.name)
        manifest, bucket_refs = await wait_for(
            published, "a publisher for a joiner", f"reading checkpoint {checkpoint.name}", seconds
        )
        await send_weights(generator, who, manifest, bucket_refs, seconds)
    finally:
        stop_actor(stand_in)
