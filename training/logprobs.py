"""Logprobs of chosen tokens, under the sampler's own rules: bans first, then temperature, top-k and top-p."""

import torch


def token_logprobs(
    logits_TV: torch.Tensor,
    targets_T: torch.Tensor,
    temperature: float = 1.0,
    banned: torch.Tensor | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprob [T] of each target and entropy [T] of its distribution (nats; the entropy carries no gradient).

    ``banned`` holds ids whose probability is exactly 0, as in the sampler. ``top_k`` 0 and ``top_p`` 1 are off.
    """
    logits_TV = logits_TV.float()
    if banned is not None and banned.numel():
        logits_TV = logits_TV.index_fill(1, banned, float("-inf"))
    if temperature != 1.0:
        logits_TV = logits_TV / temperature
    if top_k or top_p < 1.0:
        logits_TV = logits_TV.masked_fill(left_out(logits_TV.detach(), targets_T, top_k, top_p), float("-inf"))
    all_TV = torch.log_softmax(logits_TV, dim=-1)
    chosen_T = all_TV.gather(1, targets_T.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        entropy_T = torch.special.entr(all_TV.exp()).sum(dim=-1)
    return chosen_T, entropy_T


def left_out(logits_TV: torch.Tensor, targets_T: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    """Which tokens [T, V] the sampler could not draw: those below the k-th, then those outside the top-p share.

    As vLLM has it: equals of the k-th stay, and a token goes where it and all less likely ones together hold at most
    1 − p. The target itself was drawn: where rounding puts it beyond the border here, it stays all the same.
    """
    sorted_TV, order_TV = logits_TV.sort(dim=-1)  # the least likely first
    out_TV = torch.zeros_like(sorted_TV, dtype=torch.bool)
    vocabulary = sorted_TV.shape[1]
    if top_k:
        out_TV |= sorted_TV < sorted_TV[:, vocabulary - min(top_k, vocabulary), None]
    if top_p < 1.0:
        rest_TV = sorted_TV.masked_fill(out_TV, float("-inf")).softmax(dim=-1)
        beyond_TV = rest_TV.cumsum(dim=-1) <= 1 - top_p
        beyond_TV[:, -1] = False
        out_TV |= beyond_TV
    return torch.zeros_like(out_TV).scatter(1, order_TV, out_TV).scatter(1, targets_T.unsqueeze(1), False)
