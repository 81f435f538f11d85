"""Logprobs of chosen tokens, under the sampler's own rules: bans first, then temperature."""

import torch


def token_logprobs(
    logits_TV: torch.Tensor, targets_T: torch.Tensor, temperature: float = 1.0, banned: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprob [T] of each target and entropy [T] of its distribution (nats; the entropy carries no gradient).

    ``banned`` holds ids whose probability is exactly 0, as in the sampler.
    """
    logits_TV = logits_TV.float()
    if banned is not None and banned.numel():
        logits_TV = logits_TV.index_fill(1, banned, float("-inf"))
    if temperature != 1.0:
        logits_TV = logits_TV / temperature
    all_TV = torch.log_softmax(logits_TV, dim=-1)
    chosen_T = all_TV.gather(1, targets_T.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        entropy_T = torch.special.entr(all_TV.exp()).sum(dim=-1)
    return chosen_T, entropy_T
