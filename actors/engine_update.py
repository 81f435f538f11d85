"""One weight update of one engine: what was asked, and vLLM's life cycle of it. In the engine thread."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from residency.actors.rank_buckets import shared_buckets
from residency.platform.errors import DeadlineError, RoleError
from residency.training.weight_buckets import WeightsManifest
from residency.training.weights_echo import WeightsEcho

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

LEAST_SECONDS = 0.5  # that the ranks get for a verb, however late it is


@dataclass(kw_only=True)
class Update:
    """A weight update whose buckets are here; times are of ``time.perf_counter``."""

    manifest: WeightsManifest
    buckets: Sequence[np.ndarray]
    in_flight: bool
    abort: bool
    asked: float
    pulled: float
    deadline: float
    done: Future[WeightsEcho] = field(default_factory=Future)

    @property
    def waits(self) -> bool:
        """Whether it waits until nothing runs."""
        return not (self.in_flight or self.abort)


def load_update(
    engine: "LLMEngine", update: Update, num_ranks: int, *, before: Callable[[], None], after: Callable[[], None]
) -> WeightsEcho | RoleError:
    """Verify and load, with ``before`` and ``after`` around the load where it is not refused. No step may be under way.

    A refusal is an answer and no exception: the old weights go on serving. Whatever is raised ends the engine.
    """
    manifest, started = update.manifest, time.perf_counter()
    if started > update.deadline:
        return DeadlineError(
            f"running requests did not end before the deadline of weights {manifest.label}",
            "an idle engine",
            "update in flight, or raise deadline_seconds in the profile; the old weights go on serving",
        )
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
    verified = time.perf_counter()
    before()
    _ask_ranks(engine, "finish_weight_update", update)
    loaded = time.perf_counter()
    after()
    return WeightsEcho(
        version=manifest.version,
        label=manifest.label,
        digests=tuple(bucket.digest for bucket in manifest.buckets),
        seconds={
            "pull": update.pulled - update.asked,
            "drain": started - update.pulled,
            "verify": verified - started,
            "load": loaded - verified,
            "reset": time.perf_counter() - loaded,
        },
    )


def _ask_ranks(engine: "LLMEngine", verb: str, update: Update, *args: Any) -> list[Any]:
    """Each rank's answer. A late rank ends the engine: its answer would be taken for one to the next question."""
    seconds = max(LEAST_SECONDS, update.deadline - time.perf_counter())
    try:
        return engine.collective_rpc(verb, timeout=seconds, args=args)
    except TimeoutError as error:
        raise DeadlineError(
            f"a rank had not ended {verb} of weights {update.manifest.label} when the deadline came",
            "an answer of every rank before the deadline",
            "raise deadline_seconds in the profile, or give the generator more CPUs",
        ) from error
