import math

import pytest
import torch

from residency.training.logprobs import token_logprobs
from residency.training.losses import LossConfig, grpo_loss, policy_terms, sft_loss

CONFIG = LossConfig(kind="grpo", clip_low=0.2, clip_high=0.3, truncation=2.0)


def test_logprobs_by_hand() -> None:
    # Logits ln 1, ln 2, ln 5 with the last banned: probabilities 1/3 and 2/3; at temperature 1/2 the odds are squared,
    # 1 : 4.
    logits = torch.log(torch.tensor([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]]))
    targets, banned = torch.tensor([1, 0]), torch.tensor([2])
    logprobs, entropy = token_logprobs(logits, targets, 1.0, banned)
    assert logprobs.tolist() == pytest.approx([math.log(2 / 3), math.log(1 / 3)])
    assert entropy.tolist() == pytest.approx([2 / 3 * math.log(1.5) + 1 / 3 * math.log(3)] * 2)
    assert token_logprobs(logits, targets, 0.5, banned)[0].tolist() == pytest.approx([math.log(0.8), math.log(0.2)])


def test_sft_loss_by_hand_and_over_micro_batches() -> None:
    logprobs = torch.log(torch.tensor([0.5, 0.25, 0.125]))
    weights = torch.tensor([0.0, 1.0, 1.0])
    whole = sft_loss(logprobs, weights, 2.0)
    assert float(whole) == pytest.approx((math.log(4) + math.log(8)) / 2)
    parts = sft_loss(logprobs[:2], weights[:2], 2.0) + sft_loss(logprobs[2:], weights[2:], 2.0)
    assert float(parts) == pytest.approx(float(whole))


def test_clipped_surrogate_by_hand() -> None:
    # Ratios 1.5, 1.5, 0.5, 0.5, 1.1 with advantages +1, −1, +1, −1, +2; the clip's bounds are 0.8 and 1.3.
    # min(r·A, clip(r)·A): 1.3, −1.5, 0.5, −0.8, 2.2; the clip bites in the first and the fourth.
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    old = torch.full((5,), -1.0)
    terms = policy_terms(old + ratios.log(), old, old, advantages, CONFIG)
    assert terms.loss_T.tolist() == pytest.approx([-1.3, 1.5, -0.5, 0.8, -2.2])
    assert terms.clipped_T.tolist() == [True, False, False, True, False]
    assert terms.ratio_T.tolist() == pytest.approx(ratios.tolist())
    assert float(grpo_loss(terms, torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]), 4.0)) == pytest.approx(0.125)


def test_importance_weight_is_truncated_and_carries_no_gradient() -> None:
    # exp(old − sampler) is 1.5, 0.5 and 4; the last is cut to 2. At ratio 1 the gradient is −weight × advantage.
    old = torch.tensor([-1.0, -1.0, -1.0])
    sampler = old - torch.log(torch.tensor([1.5, 0.5, 4.0]))
    logprobs = old.clone().requires_grad_()
    terms = policy_terms(logprobs, old, sampler, torch.tensor([1.0, 1.0, -3.0]), CONFIG)
    assert terms.loss_T.tolist() == pytest.approx([-1.5, -0.5, 6.0])
    terms.loss_T.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-1.5, -0.5, 6.0])


def test_a_clipped_token_teaches_nothing() -> None:
    old = torch.tensor([-1.0])
    logprobs = (old + math.log(1.5)).requires_grad_()
    policy_terms(logprobs, old, old, torch.tensor([1.0]), CONFIG).loss_T.sum().backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [0.0]
