"""What is done to vLLM's requests between two of its steps, where vLLM itself has no verb for it.

All of it happens in the engine thread, on the scheduler and the output processor, which lie in this process however
many ranks the engine has.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vllm.v1.core.sched.interface import PauseState
from vllm.v1.engine import FinishReason

from residency.platform.errors import RoleError
from residency.platform.records import PolicyVersion

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.llm_engine import LLMEngine


def core_of(engine: "LLMEngine") -> Any:
    """vLLM's core, which ``engine_environment`` keeps in this process."""
    client: Any = engine.engine_core
    return client.engine_core


@contextmanager
def standing_still(engine: "LLMEngine", step: Callable[[], None]) -> Iterator[None]:
    """No step is under way in the block. vLLM schedules one ahead of the results: those are taken by ``step`` first,
    or tokens of the old weights would count as the new ones'."""
    core = core_of(engine)
    core.scheduler.set_pause_state(PauseState.PAUSED_ALL)
    try:
        while core.batch_queue:
            step()
        yield
    finally:
        core.scheduler.set_pause_state(PauseState.UNPAUSED)


def name_weights(engine: "LLMEngine", version: PolicyVersion) -> None:
    """Every token from now on is said to be of this version (``engine_requests.spans_of`` reads it)."""
    engine.set_weight_version(str(version.packed))


def forget_old_weights(engine: "LLMEngine", version: PolicyVersion) -> None:
    """Nothing that older weights computed is found by a sequence that has not begun; those that have keep theirs.

    New requests are kept apart by their salt. Sequences that are in the engine but wait for room get the new salt here.
    """
    core = core_of(engine)
    core.scheduler.reset_encoder_cache()
    core.model_executor.reset_encoder_cache()
    for request in core.scheduler.requests.values():
        if request.num_computed_tokens == 0 and request.num_output_tokens == 0:
            request.cache_salt = str(version)
            request.block_hashes.clear()
            request.update_block_hashes()
    if not core.scheduler.requests and not engine.reset_prefix_cache():
        raise RoleError("vLLM kept its prefix cache after a weight update", "an empty cache: nothing was running")


def end_early(engine: "LLMEngine", name: str) -> "RequestOutput | None":
    """Take a request out; its output has what was sampled so far, ``abort`` where a sample was not done."""
    processor = engine.output_processor
    samples = list(processor.external_req_ids.get(name, ()))
    states = [processor.request_states[sample] for sample in samples]
    output: Any = None  # of a group it comes with its last sample
    for state in states:
        output = state.make_request_output([], None, FinishReason.ABORT, None) or output
    engine.abort_request(samples, internal=True)
    for parent in (state.parent_req for state in states):
        if parent is not None:  # vLLM forgets it with the last sample that ends by itself
            processor.parent_requests.pop(parent.request_id, None)
    return output
