"""vLLM's engine, set up as a generator needs it. Imports vLLM: only after ``engine_environment`` stands."""

import logging
from pathlib import Path

import torch
from vllm import EngineArgs, SamplingParams
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.llm_engine import LLMEngine

from residency.actors.engine_config import EngineConfig
from residency.actors.engine_requests import Request
from residency.actors.media_ban import MEDIA_TOKEN_BAN
from residency.actors.ray_object_store import BACKEND, RANK_VERBS
from residency.platform.errors import RoleError
from residency.platform.sampling import SamplingConfig


def start_engine(model_dir: Path, config: EngineConfig) -> LLMEngine:
    """The engine, its ranks up and ready for weight updates; RoleError where the node cannot hold them."""
    on_cpu, num_ranks = current_platform.is_cpu(), config.tensor_parallel
    if on_cpu:
        torch.set_num_threads(config.threads)
    elif num_ranks > torch.accelerator.device_count():
        raise RoleError(
            f"an engine of {num_ranks} ranks sees {torch.accelerator.device_count()} GPUs on its node",
            "a GPU for each rank on one node: ranks across nodes are not built yet",
            "set generators.gpus (or teachers.gpus) in the profile to tensor_parallel, or lower tensor_parallel",
        )
    engine = LLMEngine.from_engine_args(
        EngineArgs(
            model=str(model_dir),
            dtype=config.dtype,  # pyright: ignore[reportArgumentType] (vLLM checks the name)
            max_model_len=config.max_model_len,
            max_num_seqs=config.max_sequences,
            max_num_batched_tokens=max(config.max_batch_tokens, config.max_model_len),
            tensor_parallel_size=num_ranks,
            distributed_executor_backend="mp" if num_ranks > 1 else "uni",
            block_size=config.block_size if on_cpu else None,
            kv_cache_memory_bytes=int(config.kv_cache_gib * 1024**3) if on_cpu else None,
            gpu_memory_utilization=config.gpu_memory_share,
            mm_processor_cache_gb=config.image_cache_gib,
            limit_mm_per_prompt={"image": config.images_per_prompt, "video": 0},
            enforce_eager=on_cpu,
            enable_sleep_mode=config.sleeps,
            # A prompt cut into chunks makes vLLM set a seeded generator back, which torch's CPU generators refuse.
            enable_chunked_prefill=not on_cpu,
            enable_prefix_caching=True,
            logprobs_mode="processed_logprobs",
            logits_processors=[MEDIA_TOKEN_BAN],
            weight_transfer_config={"backend": BACKEND},  # pyright: ignore[reportArgumentType]
            worker_extension_cls=RANK_VERBS,
            trust_remote_code=config.trust_remote_code,
            disable_log_stats=True,
        )
    )
    engine.collective_rpc("init_weight_transfer_engine", args=({},))
    logging.getLogger("vllm.v1.worker.cpu_worker").setLevel(logging.ERROR)  # it repeats itself for every image
    return engine


def sampling_params(request: Request, sampling: SamplingConfig) -> SamplingParams:
    """vLLM's parameters for one request; VLLMValidationError where it does not know such a setting."""
    return SamplingParams(
        n=request.num_samples,  # vLLM draws sample k with seed + k
        seed=request.seed,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_tokens=sampling.max_new_tokens,
        logprobs=0,  # the sampled token's alone
        flat_logprobs=True,
        detokenize=False,  # once for a whole call, at its end
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
