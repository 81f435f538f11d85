"""The profile: *on what* a recipe runs (actors of each role, CPUs, GPUs, memory, labels, ZeRO stage, dtype)."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from residency.platform.recipe import Positive, Share, Strict
from residency.platform.recipe_file import explain, read_yaml


class RoleConfig(Strict):
    """How many actors of a role, and what each takes."""

    actors: Positive = 1
    """Actors, at least."""
    max_actors: Positive | None = None
    """Actors to which the role may grow while there is work; as `actors` where absent."""
    cpus: Annotated[float, Field(ge=0)] = 1.0
    """CPUs of each, as Ray counts them; fractions let roles take turns."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of each."""
    threads: Positive = 1
    """Threads for computing in each."""
    labels: dict[str, str] = {}
    """Ray node labels it must be placed on."""
    fallback_labels: tuple[dict[str, str], ...] = ()
    """Other labels, tried in order where no node with `labels` has room; `{}` is any node."""

    @property
    def most_actors(self) -> int:
        """Actors at most."""
        return self.max_actors or self.actors

    @property
    def actor_cpus(self) -> float:
        """CPUs of one actor."""
        return self.cpus

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.max_actors is not None and self.max_actors < self.actors:
            raise ValueError(
                f"max_actors {self.max_actors} is below actors {self.actors}: raise max_actors to {self.actors}"
                " or more, or leave it out"
            )
        if self.fallback_labels and not self.labels:
            raise ValueError(
                f"{len(self.fallback_labels)} fallback_labels without labels, and no labels fit every node:"
                " give labels, or leave fallback_labels out"
            )
        if self.gpus > 1 and self.gpus % 1:
            raise ValueError(
                f"gpus {self.gpus:g}, and only one GPU can be shared: write {int(self.gpus)} or {int(self.gpus) + 1}"
            )
        return self


class GeneratorConfig(RoleConfig):
    """vLLM engines."""

    tensor_parallel: Positive = 1
    """Ranks an engine (T)."""
    kv_cache_gib: Annotated[float, Field(gt=0)] = 0.5
    """KV cache of each rank on CPU (GiB)."""
    gpu_memory_share: Share = 0.9
    """Share of a GPU's memory that an engine may take."""
    max_sequences: Positive = 128
    """Sequences in flight in an engine."""

    @property
    def actor_cpus(self) -> float:
        """CPUs of one engine: on CPU each of its ranks computes, on GPUs `cpus` is for all of them."""
        return self.cpus if self.gpus else self.cpus * self.tensor_parallel

    @model_validator(mode="after")
    def _a_gpu_each_rank(self) -> Self:
        if self.gpus and self.tensor_parallel > 1 and self.gpus != self.tensor_parallel:
            raise ValueError(
                f"tensor_parallel {self.tensor_parallel} on {self.gpus:g} GPUs, and each rank takes one: set gpus to"
                f" {self.tensor_parallel}, or tensor_parallel to {max(1, int(self.gpus))}"
            )
        return self


class LearnerConfig(RoleConfig):
    """DeepSpeed ranks."""

    zero_stage: Literal[1, 2, 3] = 2
    """ZeRO stage."""
    micro_batch_tokens: Positive = 8192
    """Tokens of a rank's micro-batch at most, padding included."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass."""

    @model_validator(mode="after")
    def _a_fixed_group(self) -> Self:
        if self.most_actors != self.actors:
            raise ValueError(
                f"max_actors {self.max_actors} with {self.actors} ranks, and a group does not grow while it trains:"
                f" set actors to {self.max_actors}, or leave max_actors out"
            )
        return self


class Profile(Strict):
    """What a run's roles stand on."""

    name: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of weights in generators and learners."""
    cluster_cpus: Positive | None = None
    """CPUs of the local cluster that is started; None joins the cluster that is there."""
    cluster_file: str | None = None
    """The Ray cluster YAML (from the profile's own folder) whose node types say what could ever be given."""
    node_memory_gib: Annotated[float, Field(gt=0)] = 8.0
    """Memory of a node (GiB), for the plan that `check` prints."""
    gpu_memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory of a GPU (GiB), for the plan that `check` prints."""
    object_store_mib: Positive = 512
    """Object store of the local cluster (MiB)."""
    spill_mib: Positive = 8192
    """What the local cluster's object store may put aside in the run's folder (MiB); beyond it the run ends."""
    generators: GeneratorConfig = GeneratorConfig(cpus=0.5, threads=2)
    teachers: GeneratorConfig = GeneratorConfig(cpus=0.5, threads=2)
    verifiers: RoleConfig = RoleConfig(cpus=0.1)
    synthesizers: RoleConfig = RoleConfig(cpus=0.1)
    learners: LearnerConfig = LearnerConfig(actors=2, cpus=0.25)
    publisher: RoleConfig = RoleConfig(cpus=0.05)
    server: RoleConfig = RoleConfig(cpus=0.5, threads=2)
    colocate: bool = False
    """Generators and learners share their devices in turns (synchronous RL only): who has no turn is idle, and on GPUs
    gives its memory up meanwhile. False: each has its own."""
    weight_transport: Literal["object_store", "nccl", "ipc"] = "object_store"
    """How weights reach the engines; `nccl` and `ipc` are vLLM's own, for GPUs."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Longest wait for one answer of a role, or for its place (seconds)."""
    grace_seconds: Annotated[float, Field(gt=0)] = 20.0
    """From a notice (SIGTERM, a node's drain) until a generator has given its work back and the learner has saved."""

    @model_validator(mode="after")
    def _turns_on_the_same_gpus(self) -> Self:
        engine, rank = self.generators, self.learners
        if not self.colocate or not (engine.gpus or rank.gpus):
            return self
        shares = f"generators {engine.actors} × {engine.gpus:g} GPU, learners {rank.actors} × {rank.gpus:g} GPU"
        if not (engine.gpus and rank.gpus and engine.gpus + rank.gpus <= 1):
            raise ValueError(
                f"colocate with {shares}, and each GPU is for one engine and one rank: set both gpus so that together"
                " they make at most 1, or leave colocate out"
            )
        one_each = engine.most_actors == engine.actors == rank.actors
        if not one_each or (engine.actors > 1 and engine.gpus <= 0.5):
            raise ValueError(
                f"colocate with {shares}: as many engines as ranks, and where there are several, more than half a GPU"
                " for an engine, so that no two of them meet on one; correct actors and gpus, or leave colocate out"
            )
        return self

    @model_validator(mode="after")
    def _one_cluster(self) -> Self:
        if self.cluster_cpus is not None and self.cluster_file is not None:
            raise ValueError(
                f"cluster_cpus {self.cluster_cpus} starts a local cluster, cluster_file {self.cluster_file!r} describes"
                " another: leave one of the two out"
            )
        return self


def load_profile(path: Path) -> Profile:
    """The validated profile of a YAML file; raises RecipeError naming every mistake at once."""
    tree = read_yaml(path)
    if isinstance(tree.get("cluster_file"), str):
        tree["cluster_file"] = str((path.parent / tree["cluster_file"]).resolve())
    try:
        return Profile.model_validate(tree)
    except ValidationError as error:
        raise explain(error, str(path)) from error
