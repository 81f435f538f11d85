"""The four losses, worked by hand; T = completion tokens, row after row."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from residency.platform.errors import RecipeError
from residency.platform.recipe import ALGORITHMS as NAMES
from residency.platform.recipe import KlConfig, RlConfig
from residency.platform.recipe_file import load_recipe
from residency.training.algorithms.algorithm import BatchTotals, PolicyLoss, PolicyTokens
from residency.training.algorithms.find_algorithm import ALGORITHMS, find_algorithm
from residency.training.algorithms.kl import kl_estimate
from residency.training.losses import LossConfig

ROOT = Path(__file__).parents[3]
CONFIG = LossConfig(kind="dapo", clip_low=0.2, clip_high=0.3, truncation=2.0, max_tokens=8)


def tokens_of(
    logprobs: torch.Tensor,
    old: torch.Tensor,
    advantages: list[float],
    lengths: list[int],
    sampler: torch.Tensor | None = None,
    reference: torch.Tensor | None = None,
) -> PolicyTokens:
    """Rows of these lengths with one advantage each, every token of weight 1."""
    counts = torch.tensor(lengths)
    return PolicyTokens(
        logprobs_T=logprobs,
        old_logprobs_T=old,
        sampler_logprobs_T=old if sampler is None else sampler,
        reference_logprobs_T=reference,
        advantages_T=torch.tensor(advantages).repeat_interleave(counts),
        weights_T=torch.ones(len(logprobs)),
        rows_T=torch.arange(len(lengths)).repeat_interleave(counts),
        num_rows=len(lengths),
    )


def loss_of(
    name: str, tokens: PolicyTokens, config: LossConfig = CONFIG, totals: BatchTotals | None = None
) -> PolicyLoss:
    rows = int((tokens.row_weights() > 0).sum())
    whole = BatchTotals(weight=float(tokens.weights_T.sum()), num_sequences=rows)
    return find_algorithm(name).loss(tokens, totals or whole, config)


def random_tokens(seed: int = 0) -> PolicyTokens:
    """Four rows of 1 to 7 tokens, off-policy in every way, with a gradient."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [3, 7, 1, 5]

    def noise(scale: float) -> torch.Tensor:
        return scale * torch.randn(sum(lengths), generator=generator)

    old = -2 + noise(0.5)
    return tokens_of(
        (old + noise(0.3)).requires_grad_(), old, [1.5, -0.5, 0.7, -1.7], lengths, old + noise(0.3), old + noise(0.3)
    )


# Row 1: one token at ratio 1.5 with advantage 2, clipped to 1.3: −2.6. Row 2: ratios 1, 1, 0.5 with advantage −1: 1, 1,
# and 0.8, because the clip keeps the larger loss.
RATIOS = torch.tensor([1.5, 1.0, 1.0, 0.5])


@pytest.mark.parametrize(
    ("name", "wanted", "clipped"),
    [
        ("dapo", (-2.6 + 1 + 1 + 0.8) / 4, [True, False, False, True]),
        ("grpo", (-2.6 + (1 + 1 + 0.8) / 3) / 2, [True, False, False, True]),
        ("dr_grpo", (-2.6 + 1 + 1 + 0.8) / (2 * 8), [True, False, False, True]),
        ("rloo", (-2.6 + 0.8) / 2, [True, True, True, True]),  # the ratio of row 2 is 0.5 as a whole
    ],
)
def test_by_hand(name: str, wanted: float, clipped: list[bool]) -> None:
    old = torch.full((4,), -1.0)
    loss = loss_of(name, tokens_of(old + RATIOS.log(), old, [2.0, -1.0], [1, 3]))
    assert float(loss.value) == pytest.approx(wanted)
    assert loss.clipped_T.tolist() == clipped


@pytest.mark.parametrize(("name", "wanted"), [("dapo", -1.75), ("grpo", -1.75), ("dr_grpo", -0.4375), ("rloo", -2.0)])
def test_importance_weight_is_truncated_and_carries_no_gradient(name: str, wanted: float) -> None:
    # One row, advantage 1, ratio 1; exp(old − sampler) is 1.5 and 4, the latter cut to 2. As a sequence 6, cut to 2.
    old = torch.tensor([-1.0, -1.0])
    logprobs = old.clone().requires_grad_()
    sampler = (old - torch.log(torch.tensor([1.5, 4.0]))).requires_grad_()
    loss = loss_of(name, tokens_of(logprobs, old, [1.0], [2], sampler=sampler))
    assert float(loss.value.detach()) == pytest.approx(wanted)
    loss.value.backward()
    assert logprobs.grad is not None
    assert sampler.grad is None
    weights = {"rloo": [2.0, 2.0], "dr_grpo": [1.5 / 8, 2.0 / 8]}.get(name, [0.75, 1.0])
    assert logprobs.grad.tolist() == pytest.approx([-weight for weight in weights])


@pytest.mark.parametrize(("name", "wanted"), [("dapo", -1.0), ("grpo", -1.0), ("dr_grpo", -0.25), ("rloo", -1.0)])
def test_without_a_truncation_nothing_is_corrected(name: str, wanted: float) -> None:
    # The same row as above, advantage 1 at ratio 1: each weight is 1, whatever the sampler said, even nothing at all.
    old = torch.tensor([-1.0, -1.0])
    logprobs = old.clone().requires_grad_()
    sampler = torch.tensor([-1.0 - math.log(1.5), float("-inf")])
    loss = loss_of(name, tokens_of(logprobs, old, [1.0], [2], sampler=sampler), replace(CONFIG, truncation=None))
    assert float(loss.value.detach()) == pytest.approx(wanted)
    loss.value.backward()
    assert logprobs.grad is not None
    share = {"rloo": 1.0, "dr_grpo": 1 / 8}.get(name, 0.5)
    assert logprobs.grad.tolist() == pytest.approx([-share, -share])


def test_the_token_weight_is_cut_by_token_and_the_sequence_weight_by_sequence() -> None:
    # exp(old − sampler) = 0.25, 4 and 3; truncation 2, advantage 1. By token 0.25, 2, 2: mean 4.25 / 3. As a sequence
    # 0.25 · 4 · 3 = 3, cut to 2, once.
    old = torch.full((3,), -2.0)
    tokens = tokens_of(old, old, [1.0], [3], sampler=old - torch.log(torch.tensor([0.25, 4.0, 3.0])))
    assert float(loss_of("dapo", tokens).value) == pytest.approx(-4.25 / 3)
    assert float(loss_of("rloo", tokens).value) == pytest.approx(-2.0)
    uncut = replace(CONFIG, truncation=100.0)
    assert float(loss_of("dapo", tokens, uncut).value) == pytest.approx(-7.25 / 3)
    assert float(loss_of("rloo", tokens, uncut).value) == pytest.approx(-3.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_clipped_token_teaches_nothing(name: str) -> None:
    old = torch.tensor([-1.0])
    logprobs = (old + math.log(1.5)).requires_grad_()
    loss_of(name, tokens_of(logprobs, old, [1.0], [1])).value.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [0.0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("estimator", [None, "k1", "k3"])
def test_micro_batches_add_up_whatever_their_number(name: str, estimator: str | None) -> None:
    """Rows 1–2 and 3–4 apart, the second with a row of padding, give loss and gradient of all four at once."""
    config = replace(CONFIG, kl_estimator=estimator, kl_coefficient=0.1)
    whole = random_tokens()
    totals = BatchTotals(weight=16.0, num_sequences=4)
    value = loss_of(name, whole, config, totals).value
    value.backward()

    leaf = whole.logprobs_T.detach().clone().requires_grad_()
    parts = []
    for first, last, padding in ((0, 10, 0), (10, 16, 1)):
        pad = torch.full((padding,), -3.0)

        def cut(values_T: torch.Tensor, first: int = first, last: int = last, pad: torch.Tensor = pad) -> torch.Tensor:
            return torch.cat([values_T[first:last], pad])

        assert whole.reference_logprobs_T is not None
        parts.append(
            PolicyTokens(
                logprobs_T=cut(leaf),
                old_logprobs_T=cut(whole.old_logprobs_T),
                sampler_logprobs_T=cut(whole.sampler_logprobs_T),
                reference_logprobs_T=cut(whole.reference_logprobs_T, pad=pad - 1),
                advantages_T=cut(whole.advantages_T, pad=pad * 0 + 5),
                weights_T=cut(whole.weights_T, pad=pad * 0),
                rows_T=torch.cat([whole.rows_T[first:last] % 2, torch.full((padding,), 2)]),
                num_rows=2 + padding,
            )
        )
    total = sum(loss_of(name, part, config, totals).value for part in parts)
    assert isinstance(total, torch.Tensor)
    total.backward()
    assert float(total.detach()) == pytest.approx(float(value.detach()), rel=1e-5)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, whole.logprobs_T.grad)


def test_dapo_is_bit_for_bit_what_the_shipped_recipes_always_ran() -> None:
    """The loss that was called `grpo` before the algorithms had files: a token mean with clip 0.2 / 0.3."""
    for seed in range(5):
        tokens = random_tokens(seed)
        loss = loss_of("dapo", tokens)
        loss.value.backward()
        before = tokens.logprobs_T.detach().clone().requires_grad_()
        ratio = torch.exp(before - tokens.old_logprobs_T)
        least = torch.minimum(ratio * tokens.advantages_T, ratio.clamp(1 - 0.2, 1 + 0.3) * tokens.advantages_T)
        importance = torch.exp(tokens.old_logprobs_T - tokens.sampler_logprobs_T).clamp(max=2.0).detach()
        value = (tokens.weights_T * (-importance * least)).sum() / 16.0
        value.backward()
        assert torch.equal(loss.value, value)
        assert before.grad is not None
        assert tokens.logprobs_T.grad is not None
        assert torch.equal(tokens.logprobs_T.grad, before.grad)
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        rl = load_recipe(recipe).rl
        assert (rl.algorithm, rl.clip_low, rl.clip_high, rl.truncation, rl.kl) == ("dapo", 0.2, 0.3, 2.0, None)


def test_kl_by_hand() -> None:
    # Policy 0.5, reference 0.25: r = 0.5, k1 = ln 2, k3 = 0.5 − 1 + ln 2. Their slopes in log π: 1, and 1 − r.
    logprobs = torch.tensor([math.log(0.5)], requires_grad=True)
    reference = torch.tensor([math.log(0.25)])
    k1, k3 = (kl_estimate(logprobs, reference, estimator) for estimator in ("k1", "k3"))
    assert float(k1.detach()) == pytest.approx(math.log(2))
    assert float(k3.detach()) == pytest.approx(math.log(2) - 0.5)
    assert float(torch.autograd.grad(k1.sum(), logprobs)[0]) == pytest.approx(1.0)
    assert float(torch.autograd.grad(k3.sum(), logprobs)[0]) == pytest.approx(0.5)


def test_both_estimators_have_the_kl_as_their_mean() -> None:
    # Over a distribution of three tokens: Σ p·k = Σ p·log(p/q); k1's gradient is 0 on the average, k3's is not.
    logits = torch.tensor([0.5, -0.2, 1.0], requires_grad=True)
    policy, reference = torch.log_softmax(logits, 0), torch.log_softmax(torch.tensor([0.0, 0.3, 0.1]), 0)
    chances = policy.exp().detach()
    kl = float((chances * (policy - reference)).sum().detach())
    for estimator in ("k1", "k3"):
        assert float((chances * kl_estimate(policy, reference, estimator)).sum().detach()) == pytest.approx(kl)
    slopes = [
        torch.autograd.grad((chances * kl_estimate(policy, reference, name)).sum(), logits, retain_graph=True)[0]
        for name in ("k1", "k3")
    ]
    assert float(slopes[0].abs().max()) < 1e-6
    assert float(slopes[1].abs().max()) > 0.05


@pytest.mark.parametrize(("name", "share"), [("dapo", 1 / 4), ("grpo", None), ("dr_grpo", 1 / 16), ("rloo", 1 / 2)])
def test_kl_is_averaged_as_the_loss_is(name: str, share: float | None) -> None:
    old = torch.full((4,), -1.0)
    reference = old - torch.tensor([1.0, 2.0, 3.0, 4.0])  # k1 of the tokens: 1; 2, 3, 4
    tokens = tokens_of(old, old, [2.0, -1.0], [1, 3], reference=reference)
    with_kl = loss_of(name, tokens, replace(CONFIG, kl_estimator="k1", kl_coefficient=0.5))
    added = float(with_kl.value - loss_of(name, tokens).value)
    assert added == pytest.approx(0.5 * (10 * share if share is not None else (1 + 3) / 2))


def test_names_and_a_class_by_its_module() -> None:
    assert set(NAMES) == set(ALGORITHMS)
    assert type(find_algorithm("residency.training.algorithms.rloo:Rloo")) is ALGORITHMS["rloo"]
    with pytest.raises(RecipeError, match="one of grpo"):
        find_algorithm("ppo")
    with pytest.raises(RecipeError, match="cannot be made: No module"):
        find_algorithm("nowhere_at_all:Mine")
    with pytest.raises(RecipeError, match="has no advantages and no loss"):
        find_algorithm("collections:OrderedDict")


def test_the_recipe_refuses_what_no_algorithm_is() -> None:
    assert RlConfig(algorithm="my_rules.mine:Mine").algorithm == "my_rules.mine:Mine"
    for name in ("ppo", "my-rules:Mine", "mine:", ":Mine"):
        with pytest.raises(ValueError, match="none of grpo, dapo, dr_grpo, rloo"):
            RlConfig(algorithm=name)
    with pytest.raises(ValueError, match="a reward takes k1"):
        KlConfig(place="reward", estimator="k3", coefficient=0.1)


def test_the_algorithm_in_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GSPO by `module:Class`, at most 40 lines, against its formula: the clipped ratio is exp(mean of log ratios)."""
    text = (ROOT / "docs" / "algorithms.md").read_text()
    source = text.split("```python\n")[1].split("```")[0]
    assert len(source.splitlines()) <= 40
    (tmp_path / "my_algorithm.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    # Ratios exp(mean log): row 1 1.5 → 1.3 with advantage 2; row 2 0.5^(1/3) = 0.7937 → 0.8 with advantage −1.
    old = torch.full((4,), -1.0)
    loss = loss_of("my_algorithm:Gspo", tokens_of(old + RATIOS.log(), old, [2.0, -1.0], [1, 3]))
    assert float(loss.value) == pytest.approx((-2.6 + 0.8) / 2)
    assert loss.clipped_T.tolist() == [True] * 4
    assert find_algorithm("my_algorithm:Gspo").advantages([1.0, 0.0]) == pytest.approx([1.0, -1.0], abs=1e-5)
