"""One DeepSpeed rank: its share of a batch forward and backward, optimizer steps, checkpoints, weights out. No Ray.

Every rank is given the whole batch table and computes the same plan, so that nothing but gradients is communicated.
"""

import gc
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import pyarrow as pa
import torch
from deepspeed.accelerator import get_accelerator
from safetensors.torch import save_file

from residency.platform.errors import ModelError, RoleError
from residency.platform.recipe import LoraConfig, OptimizerConfig
from residency.training.adapters import ADAPTER_FOLDER, BASE_FILE, Adapter
from residency.training.algorithms.algorithm import BatchTotals, PolicyTokens
from residency.training.algorithms.find_algorithm import find_algorithm
from residency.training.algorithms.kl import kl_estimate
from residency.training.batch_stats import BatchStats, StepStats, add_stats
from residency.training.checkpoints import (
    aside_of,
    load_processor,
    nothing_half_written,
    put_in_place,
    write_folder,
)
from residency.training.collation import MicroBatch, collate
from residency.training.deepspeed_config import EngineSettings, deepspeed_config, parameter_groups
from residency.training.engine_state import (
    checked_record,
    digest_files,
    load_engine,
    make_universal,
    restore_random,
    save_engine,
)
from residency.training.learner_state import LearnerState, write_record
from residency.training.losses import LossConfig, sft_loss
from residency.training.micro_batches import plan_micro_batches
from residency.training.model_folder import media_token_ids
from residency.training.pixel_cache import PixelCache
from residency.training.policy_model import PolicyModel
from residency.training.rank_address import RankAddress
from residency.training.reference_model import ReferenceModel
from residency.training.schedules import learning_rate_factor
from residency.training.token_scorer import TokenScorer
from residency.training.training_batch import BatchReader
from residency.training.weight_buckets import DEFAULT_BUCKET_BYTES


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

    def __init__(
        self, model_dir: Path, settings: EngineSettings, address: RankAddress, media: pa.Table, resume: bool = False
    ) -> None:
        self.address, self.settings, self.step = address, settings, 0
        torch.set_num_threads(settings.threads)
        accelerator: Any = get_accelerator()
        self._device = torch.device(
            "cpu" if accelerator.device_name() == "cpu" else accelerator.device_name(address.local_rank)
        )
        self.processor = load_processor(model_dir, settings.trust_remote_code)
        self._pixels = PixelCache(self.processor, media)
        self._reference: ReferenceModel | None = None
        self._build(model_dir, resume)

    def _build(self, model_dir: Path, resume: bool) -> None:
        settings, state = self.settings, None
        torch.manual_seed(settings.seed)
        if resume:
            state = checked_record(model_dir, self.address)
            check_fits(state, settings, model_dir)
        universal = state is not None and state.num_ranks != self.address.num_ranks
        if state is not None and universal:
            make_universal(model_dir, state, self.address)
        self._dir = model_dir
        self._policy = PolicyModel(model_dir, settings, self.processor, restored_from=model_dir if resume else None)
        scorer = TokenScorer(self._policy.model, media_token_ids(model_dir))
        scorer.train()
        groups = parameter_groups(scorer, settings.optimizer)
        self._peaks = [group.pop("peak") for group in groups]
        arguments: dict[str, Any] = {"model_parameters": groups, "config": deepspeed_config(settings, universal)}
        self._engine: Any = deepspeed.initialize(model=scorer, dist_init_required=False, **arguments)[0]
        if state is not None:
            load_engine(self._engine, model_dir, universal)
            restore_random(model_dir, self.address, settings.seed)
            self.step = state.step

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
            yield micro_rows, collate(reader, micro_rows, self._pixels, self._policy.tokens).to(self._device)

    def _micro_step(self, micro: MicroBatch, totals: BatchTotals, loss: LossConfig) -> BatchStats:
        sampling = loss.temperature, loss.top_k, loss.top_p
        reference_T = self._held_reference().logprobs(micro, *sampling) if loss.kl_estimator else None
        logprobs_T, entropies_T = self._engine(micro, *sampling)
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
            fresh_T = drift_T[micro.sampled_steps_T[counted_T] == self.step].abs()
            stats = replace(
                stats,
                mismatch_sum=float(drift_T.abs().sum()),
                mismatch_max=float(drift_T.abs().max()) if len(drift_T) else 0.0,
                num_fresh_tokens=len(fresh_T),
                fresh_mismatch_sum=float(fresh_T.sum()),
                fresh_mismatch_max=float(fresh_T.max()) if len(fresh_T) else 0.0,
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

    def reference_kl(self, batch: pa.Table, temperature: float, top_k: int = 0, top_p: float = 1.0) -> dict[str, float]:
        """Of this rank's rows, by id: Σ (sampler − reference) logprob of the completion, k1 of the sequence (nats)."""
        reader, reference, ids = BatchReader(batch), self._held_reference(), batch.column("id").to_pylist()
        sums: dict[str, float] = {}
        for micro_rows, micro in self._micro_batches(reader, list(range(reader.num_rows))):
            reference_T = reference.logprobs(micro, temperature, top_k, top_p)
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
        """The weights, bucket by bucket, under their checkpoint names; tensors are valid until the next bucket.

        Adapters are merged on rank 0; the other ranks only help to gather.
        """
        for bucket in self._policy.buckets(bucket_bytes, self._gathered):
            yield [(self._policy.names[name], self._outside(weight, adapter)) for name, weight, adapter in bucket]

    def _outside(self, weight: torch.nn.Parameter, adapter: Adapter | None) -> torch.Tensor:
        return weight.detach() if adapter is None or self.address.rank else adapter.merged()

    def _gathered(self, parameters: list[torch.nn.Parameter]) -> Any:
        if self.settings.zero_stage < 3:
            return nullcontext()
        return deepspeed.zero.GatheredParameters(parameters)

    def take_turn(self, awake: bool) -> None:
        """On a GPU that is shared in turns: optimizer states and fp32 weights wait in the CPU's memory meanwhile.

        The model's own weights stay, for the canary and for whoever is to be sent them. On CPU there is nothing to do.
        """
        if not torch.cuda.is_available():
            return
        if awake:
            self._engine.reload_states()
            return
        from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum

        self._engine.offload_states(include=[OffloadStateTypeEnum.optim_states, OffloadStateTypeEnum.hp_params])
        torch.cuda.empty_cache()

    def save_checkpoint(self, out: Path, incarnation: int = 0, state: Mapping[str, Any] | None = None) -> Path:
        """Write a Hugging Face folder (rank 0) and, with ``state``, all that a resume needs; then give it its name.

        ``state`` is a JSON-able mapping of the caller's own. An older folder stays until the new one is whole.
        """
        aside, leads = aside_of(out), self.address.rank == 0
        with nothing_half_written(out, cleans=leads):
            if leads:
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(parents=True)
            self._write_weights(aside, with_base=state is not None)
            if state is not None:
                torch.distributed.barrier()
                save_engine(self._engine, aside, self.address)
                files = digest_files(aside, self.address)
                if leads:
                    write_record(aside, self._record(incarnation, state, files))
            torch.distributed.barrier()
            if leads:
                put_in_place(aside, out)
        torch.distributed.barrier()
        return out

    def _write_weights(self, aside: Path, with_base: bool) -> None:
        """Rank 0 writes the merged weights, the adapters in peft's form and, where wanted, what is under them."""
        merged: dict[str, torch.Tensor] = {}
        bases: dict[str, torch.Tensor] = {}
        pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        for bucket in self._policy.buckets(DEFAULT_BUCKET_BYTES, self._gathered):
            for name, weight, adapter in bucket if self.address.rank == 0 else ():
                merged[name] = self._outside(weight, adapter).to("cpu", copy=True)
                if adapter is not None:
                    pairs[name] = (adapter.down.detach().cpu().clone(), adapter.up.detach().cpu().clone())
                    bases[name] = weight.detach().to("cpu", copy=True)
        if self.address.rank:
            return
        write_folder(aside, self._policy.model, self.processor, merged)
        if self._policy.adapters is not None:
            self._policy.adapters.save(aside / ADAPTER_FOLDER, pairs, str(self._dir))
            if with_base:
                (aside / BASE_FILE).parent.mkdir()
                save_file(bases, aside / BASE_FILE)

    def _record(self, incarnation: int, mapping: Mapping[str, Any], files: Mapping[str, str]) -> LearnerState:
        lora = self.settings.lora
        return LearnerState(
            step=self.step,
            incarnation=incarnation,
            num_ranks=self.address.num_ranks,
            zero_stage=self.settings.zero_stage,
            dtype=self.settings.dtype,
            lora=None if lora is None else lora.model_dump(mode="json"),
            mapping=mapping,
            files=files,
        )

    def load_checkpoint(
        self,
        model_dir: Path,
        optimizer: OptimizerConfig | None = None,
        total_steps: int | None = None,
        resume: bool = False,
        lora: LoraConfig | None = None,
    ) -> None:
        """Go on from a folder's weights, in the same processes: with a fresh optimizer and step 0, or as it was saved.

        ``resume``: optimizer, step, schedule and random state are those of the state checkpoint. Adapters train only
        where ``lora`` is given. The DeepSpeed engine is made anew in the live process group: its flat copies of the
        weights, sharded or not, could otherwise keep the old ones. A reference model is let go.
        """
        self._drop_reference()
        self.settings = replace(
            self.settings,
            optimizer=optimizer or self.settings.optimizer,
            total_steps=total_steps or self.settings.total_steps,
            lora=lora,
        )
        self._engine.destroy()
        del self._engine, self._policy
        gc.collect()
        self.step = 0
        self._build(model_dir, resume)

    def close(self) -> None:
        """Leave the process group."""
        self._drop_reference()
        self._engine.destroy()
        torch.distributed.destroy_process_group()


def check_fits(state: LearnerState, settings: EngineSettings, model_dir: Path) -> None:
    """ModelError where the optimizer's state is of another kind of training than the settings ask for."""
    lora = None if settings.lora is None else settings.lora.model_dump(mode="json")
    for name, saved, asked in (
        ("learners.zero_stage", state.zero_stage, settings.zero_stage),
        ("dtype", state.dtype, settings.dtype),
        ("lora", state.lora, lora),
    ):
        if saved != asked:
            raise ModelError(
                f"the state in {model_dir} was saved with {name} {saved}, and {asked} is asked for",
                "the same, for its optimizer to go on",
                "set it back, or start from the checkpoint's weights with a fresh optimizer",
            )
