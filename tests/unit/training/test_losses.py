import math

import pytest
import torch

from residency.training.logprobs import token_logprobs
from residency.training.losses import sft_loss


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
