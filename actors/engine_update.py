"""One weight update of one engine: what was asked, and vLLM's life cycle of it. In the engine thread."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from residency.actors.rank_buckets import shared_buckets
from residency.platform.errors import RoleError
from residency.training.update_phases import PhaseClock
from residency.training.weight_buckets import WeightsManifest
from residency.training.weights_echo import WeightsEcho

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

LEAST_SECONDS = 0.5  # that the ranks get for a verb, however late it is
GLANCE_SECONDS = 0.25  # between looks at the phase


@dataclass(kw_only=True)
class Update:
    """A weight update whose buckets are here. ``loaded`` is its echo before the canary has answered."""

    manifest: WeightsManifest
    buckets: Sequence[np.ndarray]
    in_flight: bool
    abort: bool
    clock: PhaseClock
    done: Future[WeightsEcho] = field(default_factory=Future)
    loaded: WeightsEcho | None = None

    @property
    def waits(self) -> bool:
        """Whether it waits until nothing runs."""
        return not (self.in_flight or self.abort)


def wait_for_update(update: Update, withdraw: Callable[[], None]) -> WeightsEcho:
    """The echo; LatePhaseError, after ``withdraw``, where a phase comes to its deadline. From any thread.

    A late canary is no error: a busy engine is no reason to doubt its weights. The echo then comes without one.
    """
    clock = update.clock
    while wait([update.done], timeout=min(max(clock.left(), 0.0), GLANCE_SECONDS)).not_done:
        if clock.left() > 0:
            continue
        if clock.phase == "canary" and update.loaded is not None:
            return update.loaded
        withdraw()
        raise clock.late(update.manifest.label)
    return update.done.result()


def load_update(
    engine: "LLMEngine", update: Update, num_ranks: int, *, before: Callable[[], None], after: Callable[[], None]
) -> WeightsEcho | RoleError:
    """Verify and load, with ``before`` and ``after`` around the load where it is not refused. No step may be under way.

    A refusal is an answer and no exception: the old weights go on serving. Whatever is raised ends the engine.
    """
    manifest, clock = update.manifest, update.clock
    clock.enter("verify")
    with ExitStack() as sharing:
        buckets: Any = update.buckets
        if num_ranks > 1:
            try:
                buckets = sharing.enter_context(shared_buckets(buckets))
            except RoleError as error:
                return error
        answers = _ask_ranks(engine, "verify_update", update, {"manifest": manifest, "buckets": buckets})
    refusals = [answer.refusal for answer in answers if answer.refusal is not None]
    if refusals:  # before any rank touched its first tensor
        _ask_ranks(engine, "drop_update", update)
        return refusals[0]
    clock.enter("load")
    before()
    _ask_ranks(engine, "finish_weight_update", update)
    clock.enter("reset")
    after()
    clock.enter("canary")
    return WeightsEcho(
        version=manifest.version,
        label=manifest.label,
        digests=tuple(bucket.digest for bucket in manifest.buckets),
        seconds=dict(clock.seconds),
    )


def _ask_ranks(engine: "LLMEngine", verb: str, update: Update, *args: Any) -> list[Any]:
    """Each rank's answer. A late rank ends the engine: its answer would be taken for one to the next question."""
    seconds = max(LEAST_SECONDS, update.clock.left())
    try:
        return engine.collective_rpc(verb, timeout=seconds, args=args)
    except TimeoutError as error:
        raise update.clock.late(update.manifest.label, "a rank of its engine") from error
