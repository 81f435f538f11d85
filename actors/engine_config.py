"""How a generator's engine is set up, and what it says of its health. Importing this loads neither vLLM nor torch."""

import os
from dataclasses import dataclass

from residency.platform.profiles import GeneratorConfig, Profile
from residency.platform.records import PolicyVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """One vLLM engine. ``kv_cache_gib`` and ``threads``, of each rank, count on CPU, ``gpu_memory_share`` on a GPU."""

    dtype: str = "float32"
    max_model_len: int = 512  # prompt (images expanded) and answer, in tokens
    max_sequences: int = 128
    max_batch_tokens: int = 4096  # tokens of one engine step at most
    block_size: int = 32  # tokens of a KV block; multiples of 32 are fast on CPU
    kv_cache_gib: float = 0.5
    image_cache_gib: float = 0.1  # processed images kept between requests
    tensor_parallel: int = 1  # ranks (T), all on the engine's node
    gpu_memory_share: float = 0.9
    threads: int = 2
    images_per_prompt: int = 1
    trust_remote_code: bool = False
    sleeps: bool = False  # on a GPU that it shares in turns: vLLM's sleep mode frees its memory meanwhile
    start_deadline_seconds: float = 300.0
    deadline_seconds: float = 600.0  # of one generate, of one weight update

    @classmethod
    def from_profile(
        cls,
        profile: Profile,
        generators: GeneratorConfig,
        *,
        max_model_len: int,
        images_per_prompt: int = 1,
        trust_remote_code: bool = False,
    ) -> "EngineConfig":
        """The engine that a profile asks for: its ``generators``, or its ``teachers``."""
        return cls(
            dtype=profile.dtype,
            max_model_len=max_model_len,
            images_per_prompt=images_per_prompt,
            max_sequences=generators.max_sequences,
            kv_cache_gib=generators.kv_cache_gib,
            tensor_parallel=generators.tensor_parallel,
            gpu_memory_share=generators.gpu_memory_share,
            threads=generators.threads,
            trust_remote_code=trust_remote_code,
            sleeps=profile.colocate and generators.gpus > 0,
            deadline_seconds=profile.deadline_seconds,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineHealth:
    """``running`` requests are in the engine, ``waiting`` ones not yet; ``cause`` says why it is not alive."""

    alive: bool
    version: PolicyVersion
    label: str
    running: int
    waiting: int
    cause: str = ""


def engine_environment(threads: int) -> dict[str, str]:
    """Environment that must stand before torch and vLLM are imported in the process that runs the engine."""
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core in this process, so that it can pull objects
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # of several ranks; a Ray worker's threads do not survive a fork
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # binding fails or starves inside Ray's workers
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
    }
