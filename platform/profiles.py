"""The profile: *on what* a recipe runs (actors of each role, CPUs, GPUs, memory, labels, ZeRO stage, dtype)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from residency.platform.recipe import Positive, Share, Strict, explain, read_yaml


class RoleConfig(Strict):
    """How many actors of a role, and what each takes."""

    actors: Positive = 1
    """Actors."""
    cpus: Annotated[float, Field(ge=0)] = 1.0
    """CPUs of each, as Ray counts them; fractions let roles take turns."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """GPUs of each."""
    threads: Positive = 1
    """Threads for computing in each."""
    labels: dict[str, str] = {}
    """Ray node labels it must be placed on."""


class GeneratorConfig(RoleConfig):
    """vLLM engines."""

    tensor_parallel: Positive = 1
    """Ranks an engine (T)."""
    kv_cache_gib: Annotated[float, Field(gt=0)] = 0.5
    """KV cache of each engine on CPU (GiB)."""
    gpu_memory_share: Share = 0.9
    """Share of a GPU's memory that an engine may take."""
    max_sequences: Positive = 128
    """Sequences in flight in an engine."""


class LearnerConfig(RoleConfig):
    """DeepSpeed ranks."""

    zero_stage: Literal[1, 2, 3] = 2
    """ZeRO stage."""
    micro_batch_tokens: Positive = 8192
    """Tokens of a rank's micro-batch at most, padding included."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass."""


class Profile(Strict):
    """What a run's roles stand on."""

    name: str
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of weights in generators and learners."""
    cluster_cpus: Positive | None = None
    """CPUs of the local cluster that is started; None joins the cluster that is there."""
    node_memory_gib: Annotated[float, Field(gt=0)] = 8.0
    """Memory of a node (GiB), for the plan that `check` prints."""
    gpu_memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory of a GPU (GiB), for the plan that `check` prints."""
    object_store_mib: Positive = 512
    """Object store of the local cluster (MiB)."""
    generators: GeneratorConfig = GeneratorConfig(cpus=0.5, threads=2)
    teachers: GeneratorConfig = GeneratorConfig(cpus=0.5, threads=2)
    verifiers: RoleConfig = RoleConfig(cpus=0.1)
    synthesizers: RoleConfig = RoleConfig(cpus=0.1)
    learners: LearnerConfig = LearnerConfig(actors=2, cpus=0.25)
    publisher: RoleConfig = RoleConfig(cpus=0.05)
    server: RoleConfig = RoleConfig(cpus=0.5, threads=2)
    deadline_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Longest wait for one answer of a role (seconds)."""


def load_profile(path: Path) -> Profile:
    """The validated profile of a YAML file; raises RecipeError naming every mistake at once."""
    try:
        return Profile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise explain(error, str(path)) from error
