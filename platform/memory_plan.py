"""What each role needs in memory, from the model's layout, before anything is started. No torch, no Ray."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from residency.platform.errors import ModelError
from residency.platform.node_types import Seat, seat_of
from residency.platform.profiles import GeneratorConfig, Profile
from residency.platform.recipe import Recipe

GIB = 1024**3
BYTES = {"float32": 4, "bfloat16": 2}
VERSIONS_KEPT = 2  # the publisher's one, and the next while it is collected
PROMPT_TOKEN_BYTES = 4 + 4  # its id in the trace and in the training batch
NEW_TOKEN_BYTES = (4 + 4 + 8 + 4) + (4 + 4 + 4)  # id, logprob, version and text; in the batch id, weight and logprob


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelLayout:
    """The sizes that memory depends on. ``parameters`` counts language model, vision tower and embeddings."""

    name: str
    parameters: float
    layers: int
    kv_heads: int
    head_size: int


# From the models' published config.json and model cards (Qwen2.5-VL, Apache-2.0 / Qwen licence).
PUBLISHED = {
    "Qwen2.5-VL-3B-Instruct": ModelLayout(
        name="Qwen2.5-VL-3B-Instruct", parameters=3.75e9, layers=36, kv_heads=2, head_size=128
    ),
    "Qwen2.5-VL-7B-Instruct": ModelLayout(
        name="Qwen2.5-VL-7B-Instruct", parameters=8.29e9, layers=28, kv_heads=4, head_size=128
    ),
    "Qwen2.5-VL-32B-Instruct": ModelLayout(
        name="Qwen2.5-VL-32B-Instruct", parameters=33.5e9, layers=64, kv_heads=8, head_size=128
    ),
    "Qwen2.5-VL-72B-Instruct": ModelLayout(
        name="Qwen2.5-VL-72B-Instruct", parameters=73.4e9, layers=80, kv_heads=8, head_size=128
    ),
}
TINY = ModelLayout(name="tiny", parameters=3e6, layers=4, kv_heads=4, head_size=64)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolePlan:
    """One role's line in the plan; sizes in GiB for one of an actor's ``ranks``. ``device``: where parameters live."""

    role: str
    actors: int
    most_actors: int
    ranks: int = 1
    seat: Seat
    device: str
    parameters_gib: float
    gradients_gib: float
    optimizer_gib: float
    kv_cache_gib: float

    @property
    def total_gib(self) -> float:
        return self.parameters_gib + self.gradients_gib + self.optimizer_gib + self.kv_cache_gib


@dataclass(frozen=True, kw_only=True, slots=True)
class StorePlan:
    """What is known of the object store (GiB): weights that the publisher keeps, rollouts under way, its size.

    ``rollouts``: of one RL step, and of as many more as the staleness lets be asked before it (times ``oversample``).
    """

    versions: int
    version_gib: float
    rollouts: int
    rollouts_gib: float
    size_gib: float

    @property
    def total_gib(self) -> float:
        return self.versions * self.version_gib + self.rollouts_gib


def layout_of(model: str) -> ModelLayout:
    """The layout of ``tiny``, a folder (config and weights' size on disk) or a published Qwen2.5-VL by its name."""
    if model == "tiny":
        return TINY
    name = Path(model).name
    config = Path(model) / "config.json"
    if config.is_file():
        tree = json.loads(config.read_text())
        text = {**tree, **tree.get("text_config", {})}
        stored = sum(file.stat().st_size for file in Path(model).glob("*.safetensors"))
        width = 4 if text.get("dtype", text.get("torch_dtype")) == "float32" else 2
        heads = text["num_attention_heads"]
        return ModelLayout(
            name=name,
            parameters=stored / width,
            layers=text["num_hidden_layers"],
            kv_heads=text.get("num_key_value_heads", heads),
            head_size=text.get("head_dim") or text["hidden_size"] // heads,
        )
    if name in PUBLISHED:
        return PUBLISHED[name]
    raise ModelError(
        f"model {model!r} is no folder with a config.json, and its layout is not known",
        f"a Hugging Face folder, `tiny`, or one of {', '.join(PUBLISHED)}",
        "correct student.model or the teacher's model",
    )


def generator_plan(role: str, model: ModelLayout, config: GeneratorConfig, profile: Profile) -> RolePlan:
    """An engine: a rank's share of the parameters, and the KV cache that fits into what its device leaves."""
    parameters = model.parameters * BYTES[profile.dtype] / GIB / config.tensor_parallel
    device = "GPU" if config.gpus else "CPU"
    if config.gpus and profile.gpu_memory_gib:
        kv_cache = profile.gpu_memory_gib * config.gpu_memory_share - parameters
    else:
        kv_cache = config.kv_cache_gib
    return RolePlan(
        role=role,
        actors=config.actors,
        most_actors=config.most_actors,
        ranks=config.tensor_parallel,
        seat=seat_of(config),
        device=device,
        parameters_gib=parameters,
        gradients_gib=0.0,
        optimizer_gib=0.0,
        kv_cache_gib=kv_cache,
    )


def learner_plan(model: ModelLayout, profile: Profile, with_reference: bool = False) -> RolePlan:
    """A ZeRO rank (arXiv 1910.02054, §5): stage 1 shares the optimizer, 2 the gradients too, 3 the parameters too.

    Optimizer: fp32 Adam moments (8 bytes a parameter), plus fp32 master weights (4) where the dtype is bf16.
    ``with_reference``: a second, frozen copy of the parameters for KL. Adapters (LoRA) need less than is planned here.
    Activations are not in it: they follow ``micro_batch_tokens``.
    """
    config, width = profile.learners, BYTES[profile.dtype]
    ranks = config.actors
    optimizer_bytes = 8 if profile.dtype == "float32" else 12
    return RolePlan(
        role="learner",
        actors=ranks,
        most_actors=config.most_actors,
        seat=seat_of(config),
        device="GPU" if config.gpus else "CPU",
        parameters_gib=(1 + with_reference) * model.parameters * width / GIB / (ranks if config.zero_stage >= 3 else 1),
        gradients_gib=model.parameters * width / GIB / (ranks if config.zero_stage >= 2 else 1),
        optimizer_gib=model.parameters * optimizer_bytes / GIB / ranks,
        kv_cache_gib=0.0,
    )


def plan_memory(recipe: Recipe, profile: Profile) -> list[RolePlan]:
    """One line a role; raises ModelError for a model whose layout cannot be known."""
    student = layout_of(recipe.student.model)
    kl = recipe.rl.steps > 0 and recipe.rl.kl is not None
    plans = [generator_plan("generator", student, profile.generators, profile), learner_plan(student, profile, kl)]
    for teacher in recipe.all_teachers:
        if teacher.kind == "vllm" and teacher.model:
            layout = layout_of(teacher.model)
            plans.append(generator_plan(f"teacher {layout.name}", layout, profile.teachers, profile))
    for role, config in (
        ("verifier", profile.verifiers),
        ("synthesizer", profile.synthesizers),
        ("publisher", profile.publisher),
    ):
        version = student.parameters * BYTES[profile.dtype] / GIB
        plans.append(
            RolePlan(
                role=role,
                actors=config.actors,
                most_actors=config.most_actors,
                seat=seat_of(config),
                device="object store" if role == "publisher" else "CPU",
                parameters_gib=version * VERSIONS_KEPT if role == "publisher" else 0.0,
                gradients_gib=0.0,
                optimizer_gib=0.0,
                kv_cache_gib=0.0,
            )
        )
    return plans


def rollout_bytes(recipe: Recipe) -> int:
    """Of one rollout, in its trace and in the training batch, its prompt and answer at their longest."""
    student = recipe.student
    return student.max_prompt_tokens * PROMPT_TOKEN_BYTES + student.max_new_tokens * NEW_TOKEN_BYTES


def plan_store(recipe: Recipe, profile: Profile) -> StorePlan:
    """The object store's line; answers are taken at their longest. Media are not in it: no dataset has been read."""
    rl = recipe.rl
    groups = math.ceil(rl.oversample * rl.prompts_per_step) * (rl.staleness + 1)
    rollouts = groups * rl.group_size if rl.steps else 0
    return StorePlan(
        versions=VERSIONS_KEPT,
        version_gib=layout_of(recipe.student.model).parameters * BYTES[profile.dtype] / GIB,
        rollouts=rollouts,
        rollouts_gib=rollouts * rollout_bytes(recipe) / GIB,
        size_gib=profile.object_store_mib / 1024,
    )
