"""One DeepSpeed rank: its share of a batch forward and backward, optimizer steps, checkpoints, weights out. No Ray.

Every rank is given the whole batch table and computes the same plan, so that nothing but gradients is communicated.
"""

import gc
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import pyarrow as pa
import torch
from deepspeed.accelerator import get_accelerator

from residency.platform.errors import RoleError
from residency.platform.recipe import OptimizerConfig
from residency.training.algorithms.algorithm import BatchTotals, PolicyTokens
from residency.training.algorithms.find_algorithm import find_algorithm
from residency.training.algorithms.kl import kl_estimate
from residency.training.batch_stats import BatchStats, StepStats, add_stats
from residency.training.checkpoints import (
    checkpoint_names,
    load_model,
    load_processor,
    saved_parameters,
    write_checkpoint,
)
from residency.training.collation import MicroBatch, ModelTokens, collate
from residency.training.deepspeed_config import EngineSettings, deepspeed_config, parameter_groups
from residency.training.losses import LossConfig, sft_loss
from residency.training.micro_batches import plan_micro_batches
from residency.training.model_folder import media_token_ids
from residency.training.pixel_cache import PixelCache
from residency.training.rank_address import RankAddress
from residency.training.reference_model import ReferenceModel
from residency.training.schedules import learning_rate_factor
from residency.training.token_scorer import TokenScorer
from residency.training.training_batch import BatchReader
from residency.training.weight_buckets import DEFAULT_BUCKET_BYTES, plan_buckets


def join_process_group(address: RankAddress, deadline_seconds: float) -> None:
    """Join (or, as rank 0, open) the process group; collectives that last longer than the deadline fail."""
    accelerator: Any = get_accelerator()
    os.environ.update(
        RANK=str(address.rank),
        WORLD_SIZE=str(address.num_ranks),
        LOCAL_RANK=str(address.local_rank),
        MASTER_ADDR=address.host,
        MASTER_PORT=str(address.port),
    )
    deepspeed.init_distributed(
        dist_backend="gloo" if accelerator.device_name() == "cpu" else accelerator.communication_backend_name(),
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timedelta(seconds=deadline_seconds),
        init_method=f"tcp://{address.host}:{address.port}",
        rank=address.rank,
        world_size=address.num_ranks,
    )


class DeepSpeedEngine:
    """A rank's model, optimizer and data path. Every public method is collective: all ranks call it alike."""

    def __init__(self, model_dir: Path, settings: EngineSettings, address: RankAddress, media: pa.Table) -> None:
        self.address, self.settings, self.step = address, settings, 0
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        accelerator: Any = get_accelerator()
        self._device = torch.device(
            "cpu" if accelerator.device_name() == "cpu" else accelerator.device_name(address.local_rank)
        )
        self.processor = load_processor(model_dir, settings.trust_remote_code)
        self._pixels = PixelCache(self.processor, media)
        self._reference: ReferenceModel | None = None
        self._build(model_dir)

    def _build(self, model_dir: Path) -> None:
        settings = self.settings
        self.model = load_model(model_dir, settings.dtype, settings.trust_remote_code)
        if settings.activation_checkpointing:
            self.model.gradient_checkpointing_enable()
        config = self.model.config
        vision = config.vision_config
        self._tokens = ModelTokens(
            pad=int(self.processor.tokenizer.pad_token_id),
            image=int(config.image_token_id),
            patch_values=3 * int(vision.temporal_patch_size) * int(vision.patch_size) ** 2,
            spatial_merge=int(vision.spatial_merge_size),
        )
        self._names = checkpoint_names(self.model)
        scorer = TokenScorer(self.model, media_token_ids(model_dir))
        scorer.train()
        groups = parameter_groups(scorer, settings.optimizer)
        self._peaks = [group.pop("peak") for group in groups]
        arguments: dict[str, Any] = {"model_parameters": groups, "config": deepspeed_config(settings)}
        self._engine: Any = deepspeed.initialize(model=scorer, dist_init_required=False, **arguments)[0]

    def forward_backward(self, batch: pa.Table, rows: Sequence[int] | None, loss: LossConfig) -> BatchStats:
        """Add this rank's share of the batch's gradient; returns its part of the sums.

        The loss is a mean over these rows on all ranks (over their tokens or sequences, as the loss has it). Several
        calls before ``optim_step`` add their gradients up. Raises RoleError for a loss that is not finite.
        """
        started = time.perf_counter()
        reader = BatchReader(batch)
        chosen = list(range(reader.num_rows)) if rows is None else list(rows)
        totals = BatchTotals(
            weight=reader.total_weight(chosen) or 1.0,
            num_sequences=sum(reader.total_weight([row]) > 0 for row in chosen) or 1,
        )
        parts: list[BatchStats] = []
        for micro_rows, micro in self._micro_batches(reader, chosen):
            part = self._micro_step(micro, totals, loss)
            parts.append(replace(part, num_rows=len(micro_rows)))
        return replace(add_stats(parts, parallel=False), seconds=time.perf_counter() - started)

    def _micro_batches(self, reader: BatchReader, rows: list[int]) -> Iterator[tuple[Sequence[int], MicroBatch]]:
        """This rank's micro-batches, as many as every other rank's, each with the rows that are in it."""
        plan = plan_micro_batches(
            reader.lengths.tolist(), self.address.num_ranks, self.settings.micro_batch_tokens, rows
        )
        for micro_rows in plan[self.address.rank]:
            yield micro_rows, collate(reader, micro_rows, self._pixels, self._tokens).to(self._device)

    def _micro_step(self, micro: MicroBatch, totals: BatchTotals, loss: LossConfig) -> BatchStats:
        reference_T = self._held_reference().logprobs(micro, loss.temperature) if loss.kl_estimator else None
        logprobs_T, entropies_T = self._engine(micro, loss.temperature)
        counted_T = micro.weights_T > 0
        stats = BatchStats(
            num_tokens=int(counted_T.sum()),
            num_input_tokens=micro.num_input_tokens,
            num_micro_batches=1,
            entropy_sum=float(entropies_T[counted_T].sum()),
        )
        if loss.kind == "sft":
            value = sft_loss(logprobs_T, micro.weights_T, totals.weight)
        else:
            old_T = logprobs_T.detach()  # one optimizer step a batch: the weights before it are these
            tokens = PolicyTokens(
                logprobs_T=logprobs_T,
                old_logprobs_T=old_T,
                sampler_logprobs_T=micro.sampler_logprobs_T,
                reference_logprobs_T=reference_T,
                advantages_T=micro.advantages_T,
                weights_T=micro.weights_T,
                rows_T=micro.positions_T // micro.input_ids.shape[1],
                num_rows=micro.input_ids.shape[0],
            )
            result = find_algorithm(loss.kind).loss(tokens, totals, loss)
            value = result.value
            if reference_T is not None and loss.kl_estimator is not None:
                kl_T = kl_estimate(old_T, reference_T, loss.kl_estimator)
                stats = replace(stats, kl_sum=float(kl_T[counted_T].sum()))
            drift_T = (old_T - micro.sampler_logprobs_T)[counted_T]
            stats = replace(
                stats,
                mismatch_sum=float(drift_T.abs().sum()),
                mismatch_max=float(drift_T.abs().max()) if len(drift_T) else 0.0,
                ratio_sum=float(drift_T.exp().sum()),
                clipped_sum=float(result.clipped_T[counted_T].sum()),
            )
        total = float(value.detach())
        if not math.isfinite(total):
            raise RoleError(
                f"learner rank {self.address.rank} got a loss of {total} in step {self.step}",
                "a finite loss",
                "lower the learning rate, or look for a completion that holds a banned token",
            )
        # DeepSpeed averages gradients over the ranks; the loss is already divided by the weight of all of them.
        self._engine.backward(value * self.address.num_ranks, scale_wrt_gas=False)
        return replace(stats, loss=total)

    def hold_reference(self, model_dir: Path) -> None:
        """Hold the folder's model, frozen, beside the policy, until ``load_checkpoint`` lets it go."""
        self._drop_reference()
        self._reference = ReferenceModel(model_dir, self.settings, self._device)

    def _held_reference(self) -> ReferenceModel:
        if self._reference is None:
            raise RoleError(
                f"learner rank {self.address.rank} holds no reference model",
                "one, where the recipe has KL",
                "call hold_reference after load_checkpoint",
            )
        return self._reference

    def _drop_reference(self) -> None:
        if self._reference is not None:
            self._reference.close()
            self._reference = None

    def reference_kl(self, batch: pa.Table, temperature: float) -> dict[str, float]:
        """Of this rank's rows, by id: Σ (sampler − reference) logprob of the completion, k1 of the sequence (nats)."""
        reader, reference, ids = BatchReader(batch), self._held_reference(), batch.column("id").to_pylist()
        sums: dict[str, float] = {}
        for micro_rows, micro in self._micro_batches(reader, list(range(reader.num_rows))):
            reference_T = reference.logprobs(micro, temperature)
            kl_T = micro.weights_T * kl_estimate(micro.sampler_logprobs_T, reference_T, "k1")
            rows_T = micro.positions_T // micro.input_ids.shape[1]
            sums_N = kl_T.new_zeros(micro.input_ids.shape[0]).index_add(0, rows_T, kl_T).tolist()
            sums |= {ids[row]: sums_N[place] for place, row in enumerate(micro_rows)}
        return sums

    def optim_step(self) -> StepStats:
        """One optimizer step on the gradients so far."""
        started = time.perf_counter()
        optimizer = self.settings.optimizer
        factor = learning_rate_factor(self.step, self.settings.total_steps, optimizer.warmup_ratio, optimizer.schedule)
        for group, peak in zip(self._engine.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self._engine.step()
        self.step += 1
        return StepStats(
            step=self.step,
            learning_rate=optimizer.learning_rate * factor,
            gradient_norm=float(self._engine.get_global_grad_norm() or 0.0),
            seconds=time.perf_counter() - started,
        )

    def gather_weights(self, bucket_bytes: int = DEFAULT_BUCKET_BYTES) -> Iterator[list[tuple[str, torch.Tensor]]]:
        """The weights, bucket by bucket, under their checkpoint names; tensors are valid until the next bucket."""
        parameters = {self._names[name]: value for name, value in saved_parameters(self.model).items()}
        whole = [(name, _full_shape(parameter)) for name, parameter in parameters.items()]
        for bucket in plan_buckets(whole, bucket_bytes):
            names = [name for name, _ in bucket]
            with self._gathered([parameters[name] for name in names]):
                yield [(name, parameters[name].detach()) for name in names]

    def _gathered(self, parameters: list[torch.nn.Parameter]) -> Any:
        if self.settings.zero_stage < 3:
            return nullcontext()
        return deepspeed.zero.GatheredParameters(parameters)

    def save_checkpoint(self, out: Path, with_optimizer: bool = False) -> Path:
        """Write a Hugging Face folder (rank 0) and, where wanted, DeepSpeed's own state below ``deepspeed/``."""
        live_name = {saved: live for live, saved in self._names.items()}
        tensors: dict[str, torch.Tensor] = {}
        for bucket in self.gather_weights():
            if self.address.rank == 0:
                tensors.update((live_name[name], tensor.to("cpu", copy=True)) for name, tensor in bucket)
        if self.address.rank == 0:
            write_checkpoint(out, self.model, self.processor, tensors)
        if with_optimizer:
            torch.distributed.barrier()
            self._engine.save_checkpoint(str(out / "deepspeed"), client_state={"step": self.step})
        torch.distributed.barrier()
        return out

    def load_checkpoint(
        self, model_dir: Path, optimizer: OptimizerConfig | None = None, total_steps: int | None = None
    ) -> None:
        """Go on from a folder's weights with a fresh optimizer, in the same processes; step counts from 0 again.

        The DeepSpeed engine is made anew in the live process group: its flat copies of the weights, sharded or not,
        could otherwise keep the old ones. A reference model is let go.
        """
        self._drop_reference()
        self.settings = replace(
            self.settings,
            optimizer=optimizer or self.settings.optimizer,
            total_steps=total_steps or self.settings.total_steps,
        )
        self._engine.destroy()
        del self._engine, self.model
        gc.collect()
        self.step = 0
        self._build(model_dir)

    def close(self) -> None:
        """Leave the process group."""
        self._drop_reference()
        self._engine.destroy()
        torch.distributed.destroy_process_group()


def _full_shape(parameter: torch.nn.Parameter) -> torch.Tensor:
    """A tensor without data of the parameter's whole shape (under ZeRO-3 the parameter itself is a shard)."""
    return torch.empty(getattr(parameter, "ds_shape", parameter.shape), dtype=parameter.dtype, device="meta")
