"""What one replica's engine is started with. Importing this loads neither vLLM nor torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residency.platform.profiles import Profile
from residency.platform.serving.door_config import DoorConfig

MEDIA_TOKEN_BAN = "residency.actors.media_ban:MediaTokenBan"
WEIGHTS_BACKEND = "residency_folder"
RANK_VERBS = "residency.actors.serving.folder_weights.FolderVerbs"
NO_MEDIA_DOMAIN = "no-host-is-allowed.invalid"  # an empty list would allow every host
ADAPTER_RANKS = (8, 16, 32, 64, 128, 256)  # that vLLM takes


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """One replica: its engine's settings, and its door's. The model itself comes with the serving state."""

    door: DoorConfig
    dtype: str = "float32"
    max_model_len: int = 512  # prompt (images expanded) and answer, in tokens
    max_sequences: int = 32
    kv_cache_gib: float = 0.25  # on CPU
    gpu_memory_share: float = 0.9  # on a GPU
    on_gpu: bool = False
    trust_remote_code: bool = False
    deadline_seconds: float = 600.0  # of a wait for new weights, and of a start

    @classmethod
    def from_profile(cls, profile: Profile, *, door: DoorConfig, max_model_len: int) -> "ServerConfig":
        """The server that a profile asks for."""
        return cls(
            door=door,
            dtype=profile.dtype,
            max_model_len=max_model_len,
            gpu_memory_share=profile.generators.gpu_memory_share,
            on_gpu=profile.server.gpus > 0,
            deadline_seconds=profile.deadline_seconds,
        )

    @property
    def most_in_flight(self) -> int:
        """Requests that a replica takes at once, running and waiting; more are answered with 503."""
        return 2 * self.max_sequences

    def engine_arguments(self, model_dir: Path, model_name: str, adapter_rank: int | None) -> dict[str, Any]:
        """Arguments of vLLM's ``AsyncEngineArgs``; ``adapter_rank`` is that of the LoRA adapters to come, if any."""
        arguments: dict[str, Any] = {
            "model": str(model_dir),
            "served_model_name": [model_name],
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "max_num_seqs": self.max_sequences,
            "max_num_batched_tokens": max(2048, self.max_model_len),
            "limit_mm_per_prompt": {"image": self.door.images, "video": 0},
            "logits_processors": [MEDIA_TOKEN_BAN],  # on the engine, so that no request can undo it
            "allowed_media_domains": [NO_MEDIA_DOMAIN],  # images come as data URLs: the engine fetches nothing
            "trust_remote_code": self.trust_remote_code,
            "mm_processor_cache_gb": 0.1,
            "disable_log_stats": True,
            "worker_extension_cls": RANK_VERBS,
            "weight_transfer_config": {"backend": WEIGHTS_BACKEND},
        }
        if adapter_rank is not None:
            rank = next((rank for rank in ADAPTER_RANKS if rank >= adapter_rank), ADAPTER_RANKS[-1])
            arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
        if self.on_gpu:
            return arguments | {"gpu_memory_utilization": self.gpu_memory_share}
        return arguments | {
            "enforce_eager": True,
            # A prompt cut into chunks makes vLLM set a seeded generator back, which torch's CPU generators refuse.
            "enable_chunked_prefill": False,
            "kv_cache_memory_bytes": int(self.kv_cache_gib * 2**30),
            "block_size": 32,
        }
