"""The model as the learner runs it: micro-batch in, logprob and entropy of each completion token out."""

from typing import Any

import torch

from residency.training.collation import MicroBatch
from residency.training.logprobs import token_logprobs
from residency.training.model_inputs import forward_names, media_inputs


class TokenScorer(torch.nn.Module):
    """Wraps a Hugging Face model so that the LM head runs on the completion's positions only.

    With prompts of eighty tokens and answers of twenty that is a fifth of the head's work. It is the module that
    DeepSpeed wraps, because under ZeRO-3 the head must run inside the engine's forward pass.
    """

    def __init__(self, model: Any, banned: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self._accepted = forward_names(model)
        self.register_buffer("banned", torch.tensor(banned, dtype=torch.long), persistent=False)

    def forward(
        self, batch: MicroBatch, temperature: float, top_k: int = 0, top_p: float = 1.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logprobs [T] and entropies [T]."""
        seen = media_inputs(batch, self._accepted)
        outputs = self.model.base_model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False, **seen
        )
        hidden_T = outputs.last_hidden_state.flatten(0, 1).index_select(0, batch.positions_T)
        logits_TV = self.model.get_output_embeddings()(hidden_T)
        return token_logprobs(logits_TV, batch.targets_T, temperature, self.get_buffer("banned"), top_k, top_p)
