"""The recipe: *what* to do (model, data, teachers, mixture, algorithm, evaluation), strict and frozen."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from residency.platform.errors import RecipeError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StudentConfig(Strict):
    """The model that is trained."""

    model: str = "tiny"
    """`tiny`: a 2–4M-parameter Qwen2.5-VL built on the spot; otherwise a Hugging Face folder."""
    pretraining_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps on bare answers that make a `tiny` student a base that can see; a real one can already."""
    trust_remote_code: bool = False
    """Run code that comes with the model folder."""
    max_prompt_tokens: Positive = 256
    """Longest prompt, images expanded (tokens)."""
    max_new_tokens: Positive = 64
    """Longest answer (tokens)."""

    @property
    def is_pretrained_here(self) -> bool:
        """Whether the run makes its own base: a real model is pretrained already, whatever the recipe says."""
        return self.model == "tiny" and self.pretraining_steps > 0


class DataConfig(Strict):
    """Where the items come from."""

    format: Literal["starter", "voc", "dataset"]
    """`starter` is made on the spot, `voc` a Pascal VOC folder, `dataset` a Residency dataset folder."""
    source: str | None = None
    """The folder to read; not for `starter`."""
    train_items: Positive = 1500
    """Items for training (rows); the importer makes as many, balanced by answer."""
    tune_items: Positive = 300
    """Items for choosing (rows)."""
    held_out_items: Positive = 450
    """Items for claiming (rows)."""
    image_size: Positive = 84
    """Edge of a crop or tile (pixels)."""

    @model_validator(mode="after")
    def _source_fits_format(self) -> Self:
        if (self.source is None) != (self.format == "starter"):
            raise ValueError(
                f"format {self.format!r} with source {self.source!r}: `starter` takes none, the others need one"
                " (in the recipe, or by --set data.source=FOLDER)"
            )
        return self


class TeacherConfig(Strict):
    """One teacher; sampling teachers are asked in order, each only for what the one before left unsolved."""

    kind: Literal["annotations", "policy", "vllm"]
    """`annotations` writes from the item's own annotations, `policy` is the student after a warm-up, `vllm` a model."""
    model: str | None = None
    """Model folder, for `vllm` only."""

    @model_validator(mode="after")
    def _model_fits_kind(self) -> Self:
        if (self.model is None) == (self.kind == "vllm"):
            raise ValueError(
                f"teacher kind {self.kind!r} with model {self.model!r}: `vllm` needs a model, the others take none"
            )
        return self


class SynthesisConfig(Strict):
    """How sparse items become reasoning."""

    teachers: tuple[TeacherConfig, ...] = (TeacherConfig(kind="annotations"), TeacherConfig(kind="policy"))
    """Who writes; `annotations` must be first where `policy` is used (the warm-up needs rationales)."""
    warm_up_steps: Positive = 60
    """Optimizer steps of the warm-up checkpoint (only for the `policy` teacher)."""
    samples: Positive = 4
    """Traces an item (K)."""
    temperature: Rate = 1.0
    """Sampling temperature of the traces."""
    items: Positive | None = None
    """Train items that are sampled; all of them where absent."""
    strategies: dict[Literal["verification", "backtracking", "new_path", "correction"], Share] = {
        "verification": 0.25,
        "backtracking": 0.25,
        "new_path": 0.25,
        "correction": 0.25,
    }
    """Shares of the reflective strategies; they sum to 1."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds = [teacher.kind for teacher in self.teachers]
        if "policy" in kinds and kinds[0] != "annotations":
            raise ValueError(f"teachers {kinds}: put `annotations` first, or leave `policy` out")
        if abs(sum(self.strategies.values()) - 1) > 1e-6:
            raise ValueError(
                f"strategies sum to {sum(self.strategies.values()):.3f}: make them sum to 1, or leave them out"
            )
        return self


class MixtureConfig(Strict):
    """The SFT mixture."""

    examples: Positive | None = None
    """SFT examples in all; as many as there are where absent."""
    targets: dict[Literal["direct", "cot", "reflective"], Share] = {"direct": 0.25, "cot": 0.55, "reflective": 0.2}
    """Shares of the targets; they sum to 1."""
    families: dict[Literal["medical_multimodal", "general_multimodal", "textual_reasoning"], Share] | None = None
    """Shares of the families; as the data has them where absent. A family left out is switched off."""

    @model_validator(mode="after")
    def _sums(self) -> Self:
        for name, shares in (("targets", self.targets), ("families", self.families)):
            if shares is not None and abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"{name} sum to {sum(shares.values()):.3f}: make them sum to 1, or leave {name} out")
        return self


class OptimizerConfig(Strict):
    """AdamW with warm-up and cosine decay."""

    learning_rate: Rate
    """Peak learning rate of language model and projector."""
    vision_learning_rate: Rate | None = None
    """Peak learning rate of the vision tower; as `learning_rate` where absent."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Adam's decay rates."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay."""
    gradient_clip: Rate = 1.0
    """Largest norm of the gradient."""
    warmup_ratio: Share = 0.1
    """Share of the steps over which the rate rises."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """What the rate does after warm-up; `cosine` falls to 0."""


class SftConfig(Strict):
    """Supervised fine-tuning."""

    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3)
    batch_size: Positive = 32
    """Examples an optimizer step, over all ranks."""
    max_steps: Positive = 200
    """Optimizer steps at most."""
    evaluate_every: Positive = 25
    """Optimizer steps between looks at the tune split."""
    patience: Positive = 2
    """Looks without a gain of `min_gain` after which it stops (plateau)."""
    min_gain: Share = 0.01
    """Gain of tune accuracy that counts (fraction)."""


class DifficultyConfig(Strict):
    """Which prompts RL draws, by the SFT checkpoint's own pass counts."""

    samples: Positive = 8
    """Samples an item."""
    items: Positive | None = None
    """Train items that are sampled; all where absent."""
    keep_easy: Share = 0.1
    """Share of the RL prompts that may be always right; never right ones are left out."""


class RewardConfig(Strict):
    """Reward = format_weight · format + accuracy_weight · accuracy."""

    format_weight: Share = 0.1
    """Weight of a valid format."""
    accuracy_weight: Share = 0.9
    """Weight of a right answer."""

    @model_validator(mode="after")
    def _sums(self) -> Self:
        if abs(self.format_weight + self.accuracy_weight - 1) > 1e-6:
            raise ValueError(f"{self.format_weight} + {self.accuracy_weight} is not 1: change one of the two weights")
        return self


class RlConfig(Strict):
    """Reinforcement learning with verifiable rewards (GRPO, arXiv 2402.03300)."""

    algorithm: Literal["grpo"] = "grpo"
    """How a group becomes advantages and a batch a loss."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, warmup_ratio=0.0, schedule="constant")
    steps: Annotated[int, Field(ge=0)] = 30
    """Optimizer steps; 0 leaves RL out."""
    prompts_per_step: Positive = 32
    """Prompts a step."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Rollouts a prompt (G)."""
    temperature: Rate = 1.0
    """Sampling temperature of the rollouts."""
    clip_low: Rate = 0.2
    """ε below 1 of the clipped ratio."""
    clip_high: Rate = 0.3
    """ε above 1 of the clipped ratio."""
    truncation: Rate = 2.0
    """Cap of the importance weight between sampler and trainer."""
    max_mismatch: Rate = 1e-3
    """Mean absolute difference of sampler and trainer logprobs above which the run stops."""
    reward: RewardConfig = RewardConfig()
    max_fault_ratio: Share = 0.01
    """Share of a step's verdicts that may be our own faults before the run stops."""
    controls: tuple[Literal["sft_continued", "rl_permuted"], ...] = ()
    """Controls of equal seconds, trained from the same SFT checkpoint."""


class EvaluationConfig(Strict):
    """The boards."""

    samples: Positive = 2
    """Samples a held-out question at temperature 1."""
    temperatures: tuple[Rate, ...] = ()
    """Other temperatures at which the SFT checkpoint is also tried on the tune split; the best one stands beside."""
    bootstrap_resamples: Positive = 2000
    """Resamples of the clustered bootstrap."""


class Recipe(Strict):
    """Everything that a run does. ``seeds``: one run each, pooled in the summary."""

    name: str
    seeds: tuple[int, ...] = (0,)
    """Seeds; several give one sub-run each."""
    student: StudentConfig = StudentConfig()
    data: DataConfig
    synthesis: SynthesisConfig = SynthesisConfig()
    mixture: MixtureConfig = MixtureConfig()
    sft: SftConfig = SftConfig()
    difficulty: DifficultyConfig = DifficultyConfig()
    rl: RlConfig = RlConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    sources: dict[str, str] = {}
    """Where a figure comes from, by its dotted key; `InfiMed` for the paper's own, else the substitute's name."""

    @model_validator(mode="after")
    def _sources_name_fields(self) -> Self:
        for dotted in self.sources:
            node: Any = self
            for part in dotted.split("."):
                if isinstance(node, tuple) and part.isdigit() and int(part) < len(node):
                    node = node[int(part)]
                elif isinstance(node, dict) and part in node:
                    node = node[part]
                elif isinstance(node, BaseModel) and part in type(node).model_fields:
                    node = getattr(node, part)
                else:
                    raise ValueError(
                        f"sources names {dotted!r}, which is no field of the recipe: correct or remove the key"
                    )
        return self


def apply_override(tree: dict[str, Any], assignment: str) -> None:
    """Put one ``a.b=value`` into the raw tree in place, the value read as YAML; RecipeError for a bad form."""
    dotted, separator, text = assignment.partition("=")
    if not separator or not dotted:
        raise RecipeError(f"--set {assignment!r}", "the form key.subkey=value", "write for example --set rl.steps=10")
    *parents, last = dotted.split(".")
    node: Any = tree
    for part in parents:
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise RecipeError(f"--set {dotted}: {part!r} is no index into a list of {len(node)}")
            node = node[int(part)]
        else:
            node = node.setdefault(part, {})
        if not isinstance(node, dict | list):
            raise RecipeError(f"--set {dotted}: {part!r} is a value, it has nothing below it")
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            raise RecipeError(f"--set {dotted}: {last!r} is no index into a list of {len(node)}")
        node[int(last)] = yaml.safe_load(text)
    else:
        node[last] = yaml.safe_load(text)


def explain(error: ValidationError, where: str) -> RecipeError:
    """All mistakes of a pydantic error in one RecipeError, each with its key and what was seen."""
    lines = []
    for mistake in error.errors():
        key = ".".join(str(part) for part in mistake["loc"]) or "recipe"
        seen = "" if mistake["type"] in ("extra_forbidden", "missing") else f" (seen: {mistake['input']!r})"
        text = "unknown key" if mistake["type"] == "extra_forbidden" else mistake["msg"].removeprefix("Value error, ")
        lines.append(f"{key}: {text}{seen if len(seen) < 120 else ''}")
    return RecipeError(
        f"{where} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}: " + "; ".join(lines),
        "",
        "correct the named keys; `docs/recipe.md` lists them all",
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's top-level mapping; raises RecipeError where the file is missing, unreadable or no mapping."""
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RecipeError(
            f"{path} does not exist", "a YAML file", "give a path, or the name of a shipped one"
        ) from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{path} holds {type(tree).__name__}", "a mapping of keys")
    return tree


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """The validated recipe of a YAML file with ``--set`` overrides; raises RecipeError naming every mistake at once."""
    tree = read_yaml(path)
    for assignment in overrides:
        apply_override(tree, assignment)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise explain(error, str(path)) from error
