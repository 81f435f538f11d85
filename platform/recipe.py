"""The recipe: *what* to do (model, data, teachers, mixture, algorithm, evaluation), strict and frozen."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from residency.platform.gates_config import DuplicatesConfig, GatesConfig
from residency.platform.strict import Positive, Rate, Share, Strict
from residency.platform.synthesis_config import MixtureConfig, SynthesisConfig
from residency.platform.synthesis_config import TeacherConfig as TeacherConfig


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
    gates: GatesConfig | None = GatesConfig()
    """What is refused before anything is taught; null: everything is taken as it is."""
    duplicates: DuplicatesConfig | None = DuplicatesConfig()
    """Repeats, leaks between splits, and contamination by benchmarks; null: nothing is compared."""

    @model_validator(mode="after")
    def _source_fits_format(self) -> Self:
        if (self.source is None) != (self.format == "starter"):
            raise ValueError(
                f"format {self.format!r} with source {self.source!r}: `starter` takes none, the others need one"
                " (in the recipe, or by --set data.source=FOLDER)"
            )
        return self


class OptimizerConfig(Strict):
    """AdamW with warm-up and cosine decay."""

    learning_rate: Rate
    """Peak learning rate of language model and projector."""
    vision_learning_rate: Annotated[float, Field(ge=0)] | None = None
    """Peak learning rate of the vision tower; 0 freezes it, and as `learning_rate` where absent."""
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


class LoraConfig(Strict):
    """Low-rank adapters (arXiv 2106.09685) in place of all weights; merged into the checkpoint and for the engines."""

    rank: Positive = 16
    """r: rank of each update."""
    alpha: Rate = 32.0
    """α: the update is scaled by α / r."""
    dropout: Share = 0.0
    """Dropout before each adapter; in RL it must be 0, or sampler and trainer are two policies."""
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Linear layers of the language model that get one, by the last part of their names."""


class CheckpointConfig(Strict):
    """Checkpoints on the way, each with optimizer, data position and random state: what a death goes back to."""

    every: Positive = 20
    """Optimizer steps between two of them."""
    keep_last: Positive = 2
    """Of a stage's checkpoints the last so many are kept, and the best one besides."""


class SftConfig(Strict):
    """Supervised fine-tuning."""

    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-3)
    lora: LoraConfig | None = None
    """Adapters in place of all weights; all weights where absent."""
    length_grouped: bool = False
    """Draw batches of examples of like length (less padding), in place of wholly shuffled ones."""
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


class LengthConfig(Strict):
    """Shaping by length (DAPO, arXiv 2503.14476, equation 13), in characters: a verifier sees text, no tokens.

    The part `length` is 1 up to `max_characters` − `soft_characters`, 0 from `max_characters` on, and linear between.
    """

    max_characters: Positive
    """Length of a completion from which its part `length` is 0 (characters)."""
    soft_characters: Positive
    """How far below that the part begins to fall (characters)."""

    @model_validator(mode="after")
    def _falls_within(self) -> Self:
        if self.soft_characters > self.max_characters:
            raise ValueError(
                f"soft_characters {self.soft_characters} is above max_characters {self.max_characters}:"
                " lower the one or raise the other"
            )
        return self


class RewardConfig(Strict):
    """Reward = the parts of a verdict by their shares; a part that the verdict lacks counts 0."""

    weights: dict[str, Share] = {"format": 0.1, "accuracy": 0.9}
    """Shares of the parts, by the names that the verifier gives them; they sum to 1."""
    length: LengthConfig | None = None
    """Shaping by length: adds a part `length`, which `weights` must give a share; off where absent."""
    verifier: str | None = None
    """Your own verifier as `module:function`, in place of the rules; its folder must be on `PYTHONPATH`."""
    interface: Literal["residency", "verl", "trl", "trl_chat"] = "residency"
    """How it is called: ours, verl's `compute_score`, TRL's `reward_func` with texts, or with chat messages."""
    score_range: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest number that it returns, brought to 0–1; a number outside is an error of that sample."""

    @model_validator(mode="after")
    def _sums(self) -> Self:
        total = sum(self.weights.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"weights {self.weights} sum to {total:.3f}: make them sum to 1, or leave weights out (0.1 format,"
                " 0.9 accuracy)"
            )
        if self.length is not None and "length" not in self.weights:
            raise ValueError(
                f"length is shaped, and weights {self.weights} give it no share: add `length` to weights, or leave"
                " length out"
            )
        if self.length is None and self.verifier is None and "length" in self.weights:
            raise ValueError(
                f"weights give `length` {self.weights['length']}, and nothing measures it: add"
                " length: {max_characters: …, soft_characters: …}, or take it out of weights"
            )
        return self

    @model_validator(mode="after")
    def _verifier_fits(self) -> Self:
        if self.verifier is None:
            if self.interface != "residency" or self.score_range != (0.0, 1.0):
                raise ValueError(
                    f"interface {self.interface!r} and score_range {list(self.score_range)} without a verifier:"
                    " name one (verifier: module:function), or leave both out"
                )
            return self
        module, _, function = self.verifier.partition(":")
        if not all(name.isidentifier() for name in (*module.split("."), function)):
            raise ValueError(f"verifier {self.verifier!r} is not `module:function`: write for example my_rules:score")
        low, high = self.score_range
        if not low < high:
            raise ValueError(f"score_range [{low}, {high}] is empty: put the lower number first, or leave it out")
        return self


class KlConfig(Strict):
    """KL(policy ‖ reference), the reference being the checkpoint that RL starts from (Schulman's estimators)."""

    place: Literal["reward", "loss"]
    """`reward`: taken off a rollout's score, summed over its tokens; `loss`: added to each token's loss."""
    estimator: Literal["k1", "k3"]
    """`k1` is log(policy / reference), `k3` never negative; in the loss take `k3`, in the reward only `k1`."""
    coefficient: Rate
    """β: how much a nat of KL counts against the reward or the loss."""

    @model_validator(mode="after")
    def _estimator_fits_place(self) -> Self:
        if self.place == "reward" and self.estimator != "k1":
            raise ValueError(
                f"place 'reward' with estimator {self.estimator!r}: a reward takes k1 (write estimator: k1), or move KL"
                " to the loss (place: loss)"
            )
        return self


ALGORITHMS = ("grpo", "dapo", "dr_grpo", "rloo")


class RlConfig(Strict):
    """Reinforcement learning with verifiable rewards."""

    algorithm: str = "dapo"
    """How a group becomes advantages and a batch a loss: `grpo`, `dapo`, `dr_grpo`, `rloo`, or your `module:Class`."""
    kl: KlConfig | None = None
    """KL to the checkpoint that RL starts from; none, and no reference model in memory, where absent."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, warmup_ratio=0.0, schedule="constant")
    lora: LoraConfig | None = None
    """Adapters in place of all weights; all weights where absent."""
    steps: Annotated[int, Field(ge=0)] = 30
    """Optimizer steps; 0 leaves RL out."""
    staleness: Annotated[int, Field(ge=0)] = 0
    """η: optimizer steps by which a token's weights may lag behind when it is trained on; 0 is synchronous."""
    oversample: Annotated[float, Field(ge=1)] = 1.0
    """Prompts that are asked, as a multiple of those that a step takes: the first to finish fill it."""
    refill: bool = False
    """Dynamic sampling (DAPO): groups without variance are replaced by others until the step is full."""
    prompts_per_step: Positive = 32
    """Prompts a step."""
    group_size: Annotated[int, Field(ge=2)] = 8
    """Rollouts a prompt (G)."""
    temperature: Rate = 1.0
    """Sampling temperature of the rollouts."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Most likely tokens that are sampled from, by sampler and trainer alike; 0: all."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of probability that is sampled from, by sampler and trainer alike."""
    clip_low: Rate = 0.2
    """ε below 1 of the clipped ratio."""
    clip_high: Rate = 0.3
    """ε above 1 of the clipped ratio."""
    truncation: Rate | None = 2.0
    """Cap of the importance weight between sampler and trainer; none: no correction for what was really sampled."""
    max_mismatch: Rate | None = None
    """Mean |difference| of sampler's and trainer's logprobs (nats) under the same weights above which the run stops;
    where absent 1e-5 in float32 and 5e-2 in bfloat16."""
    reward: RewardConfig = RewardConfig()
    max_fault_ratio: Share = 0.01
    """Share of a step's verdicts that may be our own faults before the run stops."""
    controls: tuple[Literal["sft_continued", "rl_permuted"], ...] = ()
    """Controls of equal seconds, trained from the same SFT checkpoint."""

    @property
    def group_by_group(self) -> bool:
        """Whether groups are asked one by one as room comes, and not all of a step in one call."""
        return self.staleness > 0 or self.refill or self.oversample > 1

    @model_validator(mode="after")
    def _adapters_have_no_dropout(self) -> Self:
        if self.lora is not None and self.lora.dropout:
            raise ValueError(
                f"rl.lora.dropout {self.lora.dropout}: the trainer would score with units that the sampler had; set it"
                " to 0, or leave lora out"
            )
        return self

    @model_validator(mode="after")
    def _algorithm_is_named(self) -> Self:
        module, _, name = self.algorithm.partition(":")
        own = all(part.isidentifier() for part in (*module.split("."), name))
        if self.algorithm not in ALGORITHMS and not own:
            raise ValueError(
                f"algorithm {self.algorithm!r} is none of {', '.join(ALGORITHMS)}: take one of them, or name your own"
                " class as module:Class"
            )
        return self


class EvaluationConfig(Strict):
    """The boards."""

    datasets: tuple[str, ...] = ()
    """Dataset folders on which every checkpoint is examined, beside the run's own held-out split."""
    checkpoints: tuple[Literal["base", "sft", "rl"], ...] = ("base", "sft", "rl")
    """Checkpoints that are examined, with RL's controls; `base` alone: a model as it is, nothing is trained."""
    profile: Literal["strict", "medevalkit"] = "strict"
    """Scoring profile whose prompts are asked and whose scores lead; the other one's scores stand beside."""
    images: tuple[Literal["blank", "shuffled", "none"], ...] = ("blank", "shuffled", "none")
    """Image conditions beside the true images: they tell what the image is worth."""
    samples: Annotated[int, Field(ge=0)] = 2
    """Samples a held-out question at temperature 1, on the run's own dataset; 0 leaves them out."""
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
    checkpoints: CheckpointConfig = CheckpointConfig()
    sources: dict[str, str] = {}
    """Where a figure comes from, by its dotted key; `InfiMed` for the paper's own, else the substitute's name."""

    @property
    def all_teachers(self) -> tuple[TeacherConfig, ...]:
        """Those of synthesis, and the gates'."""
        gates = self.data.gates
        return (*self.synthesis.teachers, *([gates.teacher] if gates and gates.teacher else []))

    @model_validator(mode="after")
    def _gated_once(self) -> Self:
        if len(self.seeds) > 1 and self.data.gates and self.data.gates.teacher:
            raise ValueError(
                f"data.gates.teacher with {len(self.seeds)} seeds: each would ask again and might keep other items;"
                " gate with one seed, and give its folder `data` to the others as data.source with gates: null"
            )
        return self

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
