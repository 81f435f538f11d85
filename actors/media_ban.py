"""Media tokens can never be sampled: a vLLM logits processor that bans them for every request of an engine.

One sampled image token breaks the trainer's forward pass, which then counts more image tokens than image features.
The ban is the engine's, not the request's (``EngineArgs.logits_processors``), so that no path can forget it, and it is
−inf, not a bias: the trainer's own mask then gives exactly the same distribution.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.logits_processor.interface import BatchUpdate, LogitsProcessor

from residency.training.model_folder import media_token_ids

if TYPE_CHECKING:
    from vllm.config import VllmConfig

MEDIA_TOKEN_BAN = f"{__name__}:MediaTokenBan"  # as EngineArgs.logits_processors takes it


class MediaTokenBan(LogitsProcessor):
    """Sets the logits of the model's media tokens to −inf, before temperature, top-k and top-p."""

    def __init__(self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool) -> None:
        del is_pin_memory
        banned = media_token_ids(Path(vllm_config.model_config.model))
        self._banned = torch.tensor(banned, dtype=torch.long, device=device)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Ban in place; ``logits`` is ``[sequences, vocabulary]``."""
        return logits.index_fill_(1, self._banned, float("-inf"))

    def is_argmax_invariant(self) -> bool:
        return False  # so that greedy decoding is banned too

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """The same for every request: nothing to keep."""
