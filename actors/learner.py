"""One DeepSpeed rank as a Ray actor: a thin shell around ``training.deepspeed_engine``."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from residency.platform.errors import RoleError
from residency.platform.recipe import LoraConfig, OptimizerConfig
from residency.platform.records import PolicyVersion
from residency.training.batch_stats import BatchStats, StepStats
from residency.training.canary import CanaryReading
from residency.training.canary import canary_logprobs as score_canary
from residency.training.deepspeed_config import EngineSettings
from residency.training.losses import LossConfig
from residency.training.rank_address import RankAddress
from residency.training.weight_buckets import BucketSpec, Staging, staged


class LearnerActor:
    """A rank. Its verbs are collective: the group calls each on all ranks, or they would wait for each other.

    torch and DeepSpeed are imported when the rank joins, after its environment stands.
    """

    def __init__(self, model_dir: str, settings: EngineSettings, incarnation: int) -> None:
        self._model_dir, self._settings, self._incarnation = Path(model_dir), settings, incarnation
        self._engine: Any = None
        self._staging: Staging | None = None

    def forward_backward(self, batch: pa.Table, rows: Sequence[int] | None, loss: LossConfig) -> BatchStats:
        """Add this rank's share of the batch's gradient."""
        return self._started().forward_backward(batch, rows, loss)

    def optim_step(self) -> StepStats:
        """One optimizer step; the policy version counts it."""
        return self._started().optim_step()

    def save_checkpoint(self, out: str, state: Mapping[str, Any] | None = None) -> str:
        """Write the weights as a Hugging Face folder and, with ``state``, what a resume needs."""
        return str(self._started().save_checkpoint(Path(out), self._incarnation, state))

    def load_checkpoint(
        self,
        model_dir: str,
        optimizer: OptimizerConfig | None = None,
        total_steps: int | None = None,
        incarnation: int | None = None,
        resume: bool = False,
        lora: LoraConfig | None = None,
    ) -> PolicyVersion:
        """Go on from a folder's weights, as a new incarnation: with a fresh optimizer and step 0, or as saved."""
        self._started().load_checkpoint(Path(model_dir), optimizer, total_steps, resume, lora)
        self._incarnation = self._incarnation + 1 if incarnation is None else incarnation
        return self.policy_version()

    def publish_weights(self, label: str) -> Iterator[BucketSpec | np.ndarray | tuple[PolicyVersion, tuple[str, ...]]]:
        """Rank 0 yields what ``weight_buckets.staged`` does; the other ranks only help to gather.

        The staging buffer is used again for every bucket: yielding copies it into the object store. Called by the
        publisher, who thereby owns the buckets.
        """
        engine, self._staging = self._started(), self._staging or Staging()
        buckets = engine.gather_weights()
        if engine.address.rank == 0:
            yield from staged(buckets, self._staging, self.policy_version())
        else:
            for _ in buckets:
                pass

    def policy_version(self) -> PolicyVersion:
        """(incarnation, optimizer step) of the weights that this rank holds."""
        return PolicyVersion(incarnation=self._incarnation, step=self._started().step)

    def close(self) -> None:
        """Leave the process group."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _started(self) -> Any:
        if self._engine is None:
            raise RoleError("this learner rank is not started", "a started group", "use LearnerGroup.start")
        return self._engine


def open_address(_: LearnerActor) -> tuple[str, int]:
    """This node's address and a port that is free on it; run on rank 0's actor."""
    host = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind(("", 0))
        return host, int(probe.getsockname()[1])


def join(actor: LearnerActor, address: RankAddress, media: pa.Table, resume: bool) -> None:
    """Run on each rank's actor: join the process group and build the engine (collective)."""
    from residency.training.deepspeed_engine import DeepSpeedEngine, join_process_group

    join_process_group(address, actor._settings.deadline_seconds)
    actor._engine = DeepSpeedEngine(actor._model_dir, actor._settings, address, media, resume)


def hold_reference(actor: LearnerActor, model_dir: str) -> None:
    """Run on each rank's actor: hold a folder's model as the frozen reference (collective)."""
    actor._started().hold_reference(Path(model_dir))


def reference_kl(
    actor: LearnerActor, batch: pa.Table, temperature: float, top_k: int, top_p: float
) -> dict[str, float]:
    """Run on each rank's actor: k1 of the sequences that are this rank's share of the batch, by row id (collective)."""
    return actor._started().reference_kl(batch, temperature, top_k, top_p)


def canary_logprobs(actor: LearnerActor, reading: CanaryReading) -> tuple[PolicyVersion, tuple[float, ...]]:
    """Run on each rank's actor: which weights it has, and what they make of the canary's tokens (collective)."""
    return actor.policy_version(), score_canary(actor._started(), reading)


def skip_step(actor: LearnerActor) -> None:
    """Run on each rank's actor: count a step in which there was nothing to learn; the weights stay."""
    actor._started().step += 1


def take_turn(actor: LearnerActor, awake: bool) -> None:
    """Run on each rank's actor: have the device again, or give up what the other role needs of it meanwhile."""
    actor._started().take_turn(awake)
