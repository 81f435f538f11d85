import pytest
import torch

from residency.training.logprobs import token_logprobs

BANNED = torch.tensor([3, 17])


def sampler_logprobs(logits: torch.Tensor, temperature: float, top_k: int, top_p: float) -> torch.Tensor:
    """What vLLM's processed logprobs are: bans, then temperature, then its own top-k and top-p."""
    sampler = pytest.importorskip("vllm.v1.sample.ops.topk_topp_sampler")
    rows, vocabulary = logits.shape
    processed = logits.clone()
    processed[:, BANNED] = float("-inf")
    processed = processed / temperature
    k = torch.full((rows,), min(top_k, vocabulary), dtype=torch.int32) if top_k else None
    p = torch.full((rows,), top_p) if top_p < 1 else None
    return sampler.apply_top_k_top_p(processed, k, p).log_softmax(dim=-1, dtype=torch.float32)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 0.9), (0.7, 5, 1.0), (1.3, 20, 0.8), (1.0, 1, 1.0), (1.0, 0, 0.05), (1.0, 1000, 0.95), (0.6, 0, 1.0)],
)
def test_every_token_is_as_likely_as_for_the_sampler(temperature: float, top_k: int, top_p: float) -> None:
    logits = 3 * torch.randn(64, 200, generator=torch.Generator().manual_seed(0))
    logits[:, 50] = logits[:, 60]  # equals, at the border of the k-th in some rows
    wanted = sampler_logprobs(logits, temperature, top_k, top_p)
    rows, tokens = torch.nonzero(wanted.isfinite(), as_tuple=True)
    assert len(rows) < logits.numel()
    ours, entropy = token_logprobs(logits[rows], tokens, temperature, BANNED, top_k, top_p)
    assert torch.allclose(ours, wanted[rows, tokens], atol=1e-6)
    assert torch.allclose(entropy, torch.special.entr(wanted[rows].exp()).sum(-1), atol=1e-5)


def test_a_token_that_was_drawn_stays_whatever_the_border_says() -> None:
    """By hand: of 8 : 4 : 2 : 1 : 1 the first two make 0.75. The third, drawn all the same, is 2 of 14."""
    logits = torch.tensor([[8.0, 4.0, 2.0, 1.0, 1.0]]).log()
    drawn, _ = token_logprobs(logits, torch.tensor([0]), top_p=0.7)
    assert drawn.exp().item() == pytest.approx(8 / 12)
    beyond, _ = token_logprobs(logits, torch.tensor([2]), top_p=0.7)
    assert beyond.exp().item() == pytest.approx(2 / 14)
    below_the_second, _ = token_logprobs(logits, torch.tensor([4]), top_k=2)
    assert below_the_second.exp().item() == pytest.approx(1 / 13)


def test_what_is_left_out_has_no_gradient() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], requires_grad=True)
    chosen, _ = token_logprobs(logits, torch.tensor([0]), top_k=2)
    chosen.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 2:].tolist() == [0.0, 0.0]
    assert logits.grad[0, 0].item() == pytest.approx(1 - torch.tensor(1.0).sigmoid().item())
