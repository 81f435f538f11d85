"""The frozen model that KL is measured against: the checkpoint from which RL starts."""

import gc
from pathlib import Path
from typing import Any

import deepspeed
import torch

from residency.training.checkpoints import load_model
from residency.training.collation import MicroBatch
from residency.training.deepspeed_config import EngineSettings, deepspeed_config
from residency.training.model_folder import media_token_ids
from residency.training.token_scorer import TokenScorer


class ReferenceModel:
    """Scores as the policy does, under the same bans, temperature, top-k and top-p.

    Under ZeRO-3 it is sharded over the ranks, else whole on each. Sharded, every call is collective: the ranks run
    the same number of micro-batches.
    """

    def __init__(self, model_dir: Path, settings: EngineSettings, device: torch.device) -> None:
        scorer = TokenScorer(
            load_model(model_dir, settings.dtype, settings.trust_remote_code), media_token_ids(model_dir)
        )
        scorer.eval().requires_grad_(False)
        self._engine: Any = None
        if settings.zero_stage == 3:
            config = {name: value for name, value in deepspeed_config(settings).items() if name != "optimizer"}
            self._engine = deepspeed.initialize(model=scorer, config=config, dist_init_required=False)[0]
        self._scorer: Any = scorer.to(device) if self._engine is None else self._engine

    @torch.no_grad()
    def logprobs(self, micro: MicroBatch, temperature: float, top_k: int = 0, top_p: float = 1.0) -> torch.Tensor:
        """Logprob of each completion token [T]."""
        return self._scorer(micro, temperature, top_k, top_p)[0]

    def close(self) -> None:
        """Give its memory back."""
        if self._engine is not None:
            self._engine.destroy()
        self._engine = self._scorer = None
        gc.collect()
