"""Advantages, losses and gradients against TRL 1.16's own trainers, on their own rollouts of a tiny text model."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from residency.training.algorithms.advantages import group_advantages
from residency.training.algorithms.algorithm import BatchTotals, PolicyTokens
from residency.training.algorithms.find_algorithm import find_algorithm
from residency.training.logprobs import token_logprobs
from residency.training.losses import LossConfig

GROUP, MAX_TOKENS, BETA, TEMPERATURE = 6, 8, 0.05, 0.7
SCORES = [1.0, 0.1, 0.0, 1.0, 0.4, 0.1]
SHIFTS = torch.tensor([-0.6, 0.1, 0.6, 0.1, -0.2, 0.6])  # of a sequence's old logprob: the clip bites above and below


@pytest.fixture(scope="module")
def text_model_dir(tiny_student_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of two layers with the tiny student's tokenizer."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("text-model")
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_student_dir)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, pad_token_id=tokenizer.pad_token_id, initializer_range=0.5,
    )  # fmt: skip
    Qwen2ForCausalLM(shape).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    state = torch.random.get_rng_state()
    torch.manual_seed(1)
    yield tmp_path
    torch.random.set_rng_state(state)


def rolled_out(trainer_name: str, model_dir: Path, out: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A real trainer, its policy moved off its reference, and one group that it sampled and scored itself."""
    import trl
    from transformers import AutoTokenizer
    from trl.trainer.grpo_trainer import Dataset  # TRL's own `datasets` # pyright: ignore[reportPrivateImportUsage]

    tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
    ends_early = {"sequence_bias": [[[tokenizer.eos_token_id], 4.0]]}  # so that lengths differ
    config: Any = getattr(trl, f"{trainer_name}Config")(
        output_dir=str(out), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
        per_device_train_batch_size=GROUP, num_generations=GROUP, max_completion_length=MAX_TOKENS, epsilon=0.2,
        epsilon_high=0.3, temperature=TEMPERATURE, generation_kwargs=ends_early, **options,
    )  # fmt: skip
    trainer: Any = getattr(trl, f"{trainer_name}Trainer")(
        model=str(model_dir),
        reward_funcs=lambda completions, **_: SCORES,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "which side is the lesion on?"}]),
        processing_class=tokenizer,
    )
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rollouts = trainer._generate_and_score_completions([{"prompt": "which side is the lesion on?"}] * GROUP)
    assert len(set(rollouts["completion_mask"].sum(1).tolist())) > 1, "lengths differ, or the means would agree"
    return trainer, rollouts


def our_tokens(trainer: Any, rollouts: dict[str, Any], old: torch.Tensor | None, reference: bool) -> PolicyTokens:
    """The same completions through our own logprobs, padding taken out; ``old`` is padded [G, T]."""
    mask = rollouts["completion_mask"].bool()
    ids = torch.cat([rollouts["prompt_ids"], rollouts["completion_ids"]], 1)
    attention = torch.cat([rollouts["prompt_mask"], rollouts["completion_mask"]], 1)

    def logprobs(model: Any) -> torch.Tensor:
        logits = model(input_ids=ids, attention_mask=attention).logits[:, rollouts["prompt_ids"].shape[1] - 1 : -1]
        nothing = torch.tensor([], dtype=torch.long)
        return token_logprobs(logits[mask], rollouts["completion_ids"][mask], TEMPERATURE, nothing)[0]

    logprobs_T = logprobs(trainer.model)
    with torch.no_grad():
        reference_T = logprobs(trainer.ref_model) if reference else None
    old_T = logprobs_T.detach() if old is None else old[mask]
    return PolicyTokens(
        logprobs_T=logprobs_T,
        old_logprobs_T=old_T,
        sampler_logprobs_T=old_T,
        reference_logprobs_T=reference_T,
        advantages_T=rollouts["advantages"].repeat_interleave(mask.sum(1)),
        weights_T=torch.ones(len(logprobs_T)),
        rows_T=torch.arange(GROUP).repeat_interleave(mask.sum(1)),
        num_rows=GROUP,
    )


def gradient(trainer: Any, value: torch.Tensor) -> torch.Tensor:
    trainer.model.zero_grad()
    value.backward()
    return torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])


def compare(trainer: Any, rollouts: dict[str, Any], tokens: PolicyTokens, config: LossConfig) -> None:
    """Loss and the gradient of every parameter."""
    totals = BatchTotals(weight=float(tokens.weights_T.sum()), num_sequences=GROUP)
    ours = find_algorithm(config.kind).loss(tokens, totals, config)
    assert ours.clipped_T.any(), "somewhere the clip bites"
    theirs = trainer._compute_loss(trainer.model, rollouts)
    assert float(ours.value.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5, abs=1e-6)
    torch.testing.assert_close(gradient(trainer, ours.value), gradient(trainer, theirs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize("beta", [0.0, BETA])
def test_the_losses_of_grpo_trainer(
    name: Literal["grpo", "dapo", "dr_grpo"], beta: float, text_model_dir: Path, folder: Path
) -> None:
    scale = "none" if name == "dr_grpo" else "group"
    trainer, rollouts = rolled_out(
        "GRPO", text_model_dir, folder, loss_type=name, beta=beta, scale_rewards=scale,
        use_bias_correction_kl=False,  # eq. 3 of the paper, as ours; TRL's default multiplies KL by the ratio
    )  # fmt: skip
    ours = torch.tensor(group_advantages(find_algorithm(name), SCORES).advantages)
    if scale == "group":  # theirs divides by the sample's std, plus 1e-4
        ours = ours * ((GROUP - 1) / GROUP) ** 0.5
    torch.testing.assert_close(ours.float(), rollouts["advantages"], rtol=1e-3, atol=1e-6)
    mask = rollouts["completion_mask"].bool()
    now_T = our_tokens(trainer, rollouts, None, reference=False).old_logprobs_T
    old_T = now_T + 0.3 * torch.randn_like(now_T)
    drift_T = 0.5 * torch.randn_like(now_T)  # of old against the sampler: as if vLLM had sampled
    rollouts["old_per_token_logps"] = torch.zeros(mask.shape).masked_scatter(mask, old_T)
    rollouts["importance_sampling_ratio"] = torch.ones(mask.shape).masked_scatter(mask, drift_T.exp().clamp(max=2.0))
    trainer.use_vllm = True
    tokens = our_tokens(trainer, rollouts, rollouts["old_per_token_logps"], beta > 0)
    tokens = replace(tokens, sampler_logprobs_T=old_T - drift_T)
    assert (drift_T.exp() > 2).any(), "somewhere the importance weight is cut"
    kl: Any = {"kl_estimator": "k3", "kl_coefficient": beta} if beta else {}
    compare(trainer, rollouts, tokens, LossConfig(kind=name, clip_low=0.2, clip_high=0.3, max_tokens=MAX_TOKENS, **kl))


@pytest.mark.parametrize("beta", [0.0, BETA])
def test_advantages_and_loss_of_rloo_trainer(beta: float, text_model_dir: Path, folder: Path) -> None:
    """With β, KL is in the reward: Σ k1 of the completion, as ours."""
    trainer, rollouts = rolled_out("RLOO", text_model_dir, folder, beta=beta)
    tokens = our_tokens(trainer, rollouts, None, beta > 0)
    penalties = None
    if tokens.reference_logprobs_T is not None:
        kl_N = tokens.row_sums(tokens.sampler_logprobs_T - tokens.reference_logprobs_T)
        assert float(kl_N.abs().max()) > 0.1
        penalties = (beta * kl_N).tolist()
    ours = torch.tensor(group_advantages(find_algorithm("rloo"), SCORES, penalties).advantages)
    torch.testing.assert_close(ours.float(), rollouts["advantages"], rtol=1e-4, atol=1e-5)
    rollouts["old_logps"] = rollouts["old_logps"] + SHIFTS
    shift_T = (rollouts["old_logps"] - tokens.row_sums(tokens.old_logprobs_T)) / tokens.row_weights()
    old_T = tokens.old_logprobs_T + shift_T[tokens.rows_T]  # any tokens whose sum is theirs
    moved = replace(tokens, old_logprobs_T=old_T, sampler_logprobs_T=old_T)
    compare(trainer, rollouts, moved, LossConfig(kind="rloo", clip_low=0.2, clip_high=0.3))


def test_a_users_own_gspo_as_in_the_docs(text_model_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class of docs/algorithms.md, against TRL's sequence-level importance sampling."""
    text = (Path(__file__).parents[3] / "docs" / "algorithms.md").read_text()
    (folder / "docs_algorithm.py").write_text(text.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(folder)
    trainer, rollouts = rolled_out(
        "GRPO", text_model_dir, folder, loss_type="grpo", beta=0.0, importance_sampling_level="sequence"
    )
    mask = rollouts["completion_mask"].bool()
    now = our_tokens(trainer, rollouts, None, reference=False)
    old_T = now.old_logprobs_T + SHIFTS[now.rows_T] + 0.1 * torch.randn(len(now.rows_T))
    rollouts["old_per_token_logps"] = torch.zeros(mask.shape).masked_scatter(mask, old_T)
    tokens = our_tokens(trainer, rollouts, rollouts["old_per_token_logps"], reference=False)
    compare(trainer, rollouts, tokens, LossConfig(kind="docs_algorithm:Gspo", clip_low=0.2, clip_high=0.3))
