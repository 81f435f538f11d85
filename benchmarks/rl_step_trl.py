"""TRL's side of ``rl_step.py``: GRPOTrainer as its users write it, and the two patches without which it does not run
with vLLM on a CPU. Each patch says what it is for; nothing else of TRL is changed.
"""

import os
from pathlib import Path
from typing import Any

from rl_step_work import Work, items_of, profile_of, recipe_of

LEARNING_RATE = 1e-6
REWARD_CHARACTERS = 600


def reward(completions: list[Any], **_: Any) -> list[float | None]:
    """As our side's: falls with length, so that every group teaches."""
    texts = [completion[0]["content"] for completion in completions]
    return [1.0 - min(len(str(text)) / REWARD_CHARACTERS, 1.0) for text in texts]


def patch_engine(work: Work) -> None:
    """PATCH 1: the engine's flags. TRL gives no ban of media tokens, and a sampled one breaks its forward pass; the
    other flags are those of our engine, so that both sides run the same one."""
    import trl.generation.vllm_generation as generation
    from rl_step_sides import start_llm

    from residency.actors.engine_config import EngineConfig

    profile, student = profile_of(), recipe_of(work).student
    config = EngineConfig.from_profile(
        profile, profile.generators, max_model_len=student.max_prompt_tokens + student.max_new_tokens
    )

    def engine(**flags: Any) -> Any:
        kept = ("tensor_parallel_size", "model_impl", "distributed_executor_backend", "seed")
        return start_llm(flags["model"], config, **{name: flags[name] for name in kept})

    setattr(generation, "LLM", engine)  # noqa: B010 (TRL does not export the name that it calls)


def patch_weights() -> None:
    """PATCH 2: the weight update. TRL calls ``load_weights`` on a live engine tensor by tensor, which fails on CPU,
    where linear weights were repacked: vLLM's own layerwise reload instead, around the same names and tensors."""
    from trl.generation.vllm_generation import VLLMGeneration
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    def sync_weights(self: Any) -> None:
        runner = self.llm.llm_engine.model_executor.driver_worker.model_runner
        initialize_layerwise_reload(runner.model)
        runner.model.load_weights(self._iter_named_params())
        finalize_layerwise_reload(runner.model, runner.model_config)
        for module in runner.model.modules():  # a tied head computes with a repacked copy on CPU
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)
        self.llm.reset_prefix_cache()

    VLLMGeneration.sync_weights = sync_weights


def train(work: Work, gate: Any, use_vllm: bool, out: Path) -> None:
    from residency.actors.engine_config import engine_environment

    os.environ.update(engine_environment(2), ACCELERATE_USE_CPU="true")
    import torch
    from datasets import Dataset
    from PIL import Image
    from transformers import AutoProcessor, TrainerCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    from residency.platform.dataset_folder import read_dataset
    from residency.platform.prompts import render_prompt
    from residency.platform.records import PromptMode
    from residency.training.model_folder import media_token_ids

    if use_vllm:
        patch_engine(work)
        patch_weights()
    torch.set_num_threads(2)
    media = read_dataset(work.run / "data").media

    def picture(key: str) -> Image.Image:
        return media.open_image(key)

    rows = [
        {
            "prompt": [{"role": "user", "content": render_prompt(item, PromptMode.THINK)}],
            "image": picture(item.media[0]),
        }
        for item in items_of(work)
    ]
    banned = [int(token) for token in media_token_ids(work.student)]

    class AtGate(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            gate.done()

    config = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=work.rollouts,
        gradient_accumulation_steps=1,
        num_generations=work.samples,
        max_completion_length=work.tokens,
        max_steps=work.steps,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        beta=0.0,
        temperature=1.0,
        loss_type="dapo",
        shuffle_dataset=False,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=0,
        use_vllm=use_vllm,
        generation_kwargs={} if use_vllm else {"suppress_tokens": banned},
    )
    trainer = GRPOTrainer(
        model=str(work.student),
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoProcessor.from_pretrained(work.student),
        callbacks=[AtGate()],
    )
    trainer.train()
