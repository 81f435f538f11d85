"""A model on call: vLLM's own OpenAI API inside one Ray Serve deployment, behind an API key.

The replica holds the API and a vLLM engine (in a child process of its own); Ray Serve gives the proxy, the health
checks and the restarts. Importing this file loads neither vLLM nor torch.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray import serve

from residency.actors.engine_config import engine_environment
from residency.actors.key_guard import KeyGuard
from residency.platform.profiles import Profile

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

MEDIA_TOKEN_BAN = "residency.actors.media_ban:MediaTokenBan"
NO_MEDIA_DOMAIN = "no-host-is-allowed.invalid"  # an empty list would allow every host
MAX_IMAGE_PIXELS = 64_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """What one replica serves. ``digest`` is the SHA-256 of the API key."""

    model_dir: str
    model_name: str
    digest: str
    dtype: str = "float32"
    max_model_len: int = 512  # prompt (images expanded) and answer, in tokens
    max_sequences: int = 32
    kv_cache_gib: float = 0.25  # on CPU
    gpu_memory_share: float = 0.9  # on a GPU
    on_gpu: bool = False
    images_per_prompt: int = 4
    trust_remote_code: bool = False

    @classmethod
    def from_profile(
        cls, profile: Profile, *, model_dir: Path, model_name: str, digest: str, max_model_len: int
    ) -> "ServerConfig":
        """The server that a profile asks for."""
        return cls(
            model_dir=str(model_dir),
            model_name=model_name,
            digest=digest,
            dtype=profile.dtype,
            max_model_len=max_model_len,
            gpu_memory_share=profile.generators.gpu_memory_share,
            on_gpu=profile.server.gpus > 0,
        )

    def engine_arguments(self) -> dict[str, Any]:
        """Arguments of vLLM's ``AsyncEngineArgs``."""
        arguments: dict[str, Any] = {
            "model": self.model_dir,
            "served_model_name": [self.model_name],
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "max_num_seqs": self.max_sequences,
            "max_num_batched_tokens": max(2048, self.max_model_len),
            "limit_mm_per_prompt": {"image": self.images_per_prompt, "video": 0},
            "logits_processors": [MEDIA_TOKEN_BAN],  # on the engine, so that no request can undo it
            "allowed_media_domains": [NO_MEDIA_DOMAIN],  # images come as data URLs: the server fetches nothing
            "trust_remote_code": self.trust_remote_code,
            "mm_processor_cache_gb": 0.1,
            "disable_log_stats": True,
        }
        if self.on_gpu:
            return arguments | {"gpu_memory_utilization": self.gpu_memory_share}
        return arguments | {
            "enforce_eager": True,
            "kv_cache_memory_bytes": int(self.kv_cache_gib * 2**30),
            "block_size": 32,
        }


@serve.ingress()
class ModelServer:
    """One replica: a vLLM engine and vLLM's OpenAI application around it."""

    def __init__(self, config: ServerConfig) -> None:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._config = config
        self._arguments = AsyncEngineArgs(**config.engine_arguments())
        self._engine: AsyncLLM = AsyncLLM.from_engine_args(self._arguments)

    async def __serve_build_asgi_app__(self) -> KeyGuard:
        """The application that Serve mounts: vLLM's own, behind the key."""
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.app import build_app
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        api = make_arg_parser(FlexibleArgumentParser()).parse_args([])
        arguments = argparse.Namespace(**(vars(api) | vars(self._arguments)))
        tasks = await self._engine.get_supported_tasks()
        app = build_app(arguments, tasks, self._engine.model_config)
        await init_app_state(self._engine, app.state, arguments, tasks)
        # On an engine error vLLM's handler tells its own web server to stop; Serve does that by check_health.
        app.state.server = SimpleNamespace()
        return KeyGuard(app, self._config.digest)

    async def check_health(self) -> None:
        """Raises where the engine is dead: Serve then replaces the replica."""
        await self._engine.check_health()

    def __del__(self) -> None:
        engine: AsyncLLM | None = getattr(self, "_engine", None)
        if engine is not None:  # absent where the constructor failed
            engine.shutdown()


def build_server(config: ServerConfig, profile: Profile) -> serve.Application:
    """The Serve application of one model; ``deploy/serve.yaml`` and ``start_serving`` both run this."""
    environment = engine_environment(profile.server.threads) | {"VLLM_MAX_IMAGE_PIXELS": str(MAX_IMAGE_PIXELS)}
    options: dict[str, Any] = {
        "num_cpus": profile.server.cpus,
        "num_gpus": profile.server.gpus,
        "runtime_env": {"env_vars": environment},
    }
    if profile.server.labels:
        options["label_selector"] = dict(profile.server.labels)
    deployment = serve.deployment(
        name="model",
        num_replicas=profile.server.actors,
        max_ongoing_requests=2 * config.max_sequences,
        max_queued_requests=8 * config.max_sequences,  # more are answered with 503
        max_constructor_retry_count=1,  # a model that does not load will not load the second time
        health_check_period_s=10,
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=10,
        ray_actor_options=options,
    )(ModelServer)
    return deployment.bind(config)
