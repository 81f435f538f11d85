"""The recipe's `synthesis` and `mixture`: teachers, routing, budget, reflection, review, and what is taught."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from residency.platform.strict import Positive, Rate, Share, Strict

NAME_OF_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPENAI_ONLY = (
    "url",
    "key_variable",
    "revision",
    "in_flight",
    "deadline_seconds",
    "price_in",
    "price_out",
    "structured",
)


class TeacherConfig(Strict):
    """One teacher; sampling teachers are asked in order, each only for what the one before left unsolved."""

    kind: Literal["annotations", "policy", "vllm", "openai"]
    """`annotations` writes from the item's own annotations, `policy` is the student after a warm-up, `vllm` a model on
    the generator pool, `openai` any OpenAI-compatible endpoint."""
    model: str | None = None
    """Model folder for `vllm`, the model's name at the endpoint for `openai`; the others take none."""
    url: str | None = None
    """Address of the endpoint with its version, for example `https://host/v1`; for `openai` only."""
    key_variable: str | None = None
    """Name of the environment variable that holds the API key; the key itself never stands in a recipe."""
    revision: str = ""
    """Which state of the model it is, in your own words; written into every trace."""
    in_flight: Positive = 64
    """Requests in flight at the endpoint at most; fewer while it refuses or fails."""
    deadline_seconds: Rate = 120.0
    """Longest wait for one attempt (seconds); all attempts of a request may take four times as long."""
    price_in: Annotated[float, Field(ge=0)] = 0.0
    """Price of a million prompt tokens (in the currency of `synthesis.budget.money`)."""
    price_out: Annotated[float, Field(ge=0)] = 0.0
    """Price of a million completion tokens."""
    structured: bool = False
    """Ask for JSON, held to a schema where the endpoint supports that, instead of tagged text."""

    @model_validator(mode="after")
    def _model_fits_kind(self) -> Self:
        if (self.model is None) == (self.kind in ("vllm", "openai")):
            raise ValueError(
                f"teacher kind {self.kind!r} with model {self.model!r}: `vllm` and `openai` need a model, the others"
                " take none"
            )
        if (self.url is None) == (self.kind == "openai"):
            raise ValueError(
                f"teacher kind {self.kind!r} with url {self.url!r}: `openai` needs a url, the others take none"
            )
        # against the defaults, not by what was written: a run's resolved recipe writes all of them
        defaults = {name: type(self).model_fields[name].default for name in OPENAI_ONLY}
        changed = [name for name, default in defaults.items() if getattr(self, name) != default]
        if self.kind != "openai" and changed:
            raise ValueError(f"teacher kind {self.kind!r} with {', '.join(changed)}: these are for `openai` only")
        if self.url is not None and not re.match(r"https?://[^\s@]+$", self.url):
            raise ValueError("url must begin with http:// or https://, without user and password")
        # what fails here is not shown: somebody may have put the key itself
        if self.key_variable is not None and not NAME_OF_VARIABLE.fullmatch(self.key_variable):
            raise ValueError("key_variable is no name of a variable: put the key into the environment, its name here")
        return self


class BudgetConfig(Strict):
    """What synthesis may spend, over all starts of a run; raise a limit and start again, and it goes on."""

    tokens: Positive | None = None
    """Prompt and completion tokens of all teachers; no limit where absent."""
    money: Rate | None = None
    """Sum of tokens by the teachers' prices; no limit where absent."""
    hours: Rate | None = None
    """Hours at work, pauses between two starts not counted; no limit where absent."""


class RoutingConfig(Strict):
    """What an item's samples lead to. The defaults are InfiMed2's, K = 8 there: 6–8 right are easy, 3–5 go on to a
    stronger teacher that is given the reference, below 3 drop; shares, so that they fit any K."""

    enough: Positive | None = None
    """Right samples after which no more are asked; all K are asked where absent (InfiMed2)."""
    extension: Annotated[int, Field(ge=0)] = 0
    """Samples asked beyond K of an item that would be dropped (ours; InfiMed2 asks none)."""
    extension_temperature: Rate = 1.0
    """Their sampling temperature."""
    easy_from: Share = 0.75
    """Share of right samples from which they are kept without a stronger teacher (InfiMed2: 6 of 8)."""
    drop_below: Share = 0.375
    """Share of right samples below which the item is dropped (InfiMed2: 3 of 8)."""
    masked_reanswer: bool = True
    """Keep only right samples whose reasoning, its answer masked, leads a second call to the answer (InfiMed2)."""
    reference: bool = True
    """Give the last of several teachers the reference answer; its reasoning must not speak of it (InfiMed2)."""
    escalation_samples: Positive = 2
    """Samples asked of the teacher that is given the reference (ours)."""
    malformed_retries: Annotated[int, Field(ge=0)] = 2
    """Times that an item's malformed replies are asked for anew before it is rejected (ours)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.drop_below > self.easy_from:
            raise ValueError(
                f"drop_below {self.drop_below} is above easy_from {self.easy_from}: lower the one or raise the other"
            )
        return self


class ReflectionConfig(Strict):
    """Reflective injection: how often, how much, and from which wrong traces."""

    rate: Share = 1.0
    """Share of the items that may give reflective examples, by chance; 0 leaves the step out."""
    per_item: Positive = 2
    """Reflective examples an item, at most."""
    wrong_temperature: Rate = 1.5
    """Sampling temperature where a whole source has no wrong trace; the first sampling teacher is asked again."""
    wrong_samples: Positive = 4
    """Traces an item that are sampled so."""
    templates: bool = False
    """Where that gives none either, write the wrong part from the facts by template: nobody ever erred so."""


class ReviewConfig(Strict):
    """Which examples wait for a person before they are taught (`residency review`)."""

    share: Share = 0.0
    """Share of all examples, by chance."""
    classes: tuple[
        Literal["direct", "cot", "reflective", "verification", "backtracking", "new_path", "correction"], ...
    ] = ()
    """Targets and strategies of which every example waits."""


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
    max_tokens: Positive | None = None
    """Longest reply of a teacher (tokens); the student's `max_new_tokens` where absent, and always where `policy` is
    one of the teachers."""
    items: Positive | None = None
    """Train items that are sampled; all of them where absent."""
    routing: RoutingConfig | None = None
    """What an item's samples lead to; where absent right ones are kept, and the next teacher gets unsolved items."""
    budget: BudgetConfig = BudgetConfig()
    """What may be spent."""
    strategies: dict[Literal["verification", "backtracking", "new_path", "correction"], Share] = {
        "verification": 0.25,
        "backtracking": 0.25,
        "new_path": 0.25,
        "correction": 0.25,
    }
    """Shares of the reflective strategies; they sum to 1."""
    reflection: ReflectionConfig = ReflectionConfig()
    """How wrong traces become reflective examples."""
    review: ReviewConfig = ReviewConfig()
    """What a person looks at first; nothing where absent."""

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


PAPER_SFT, PAPER_RL = 188_000, 36_000  # InfiMed's samples (arXiv 2505.23867)


class MixtureConfig(Strict):
    """The SFT mixture, and the set of prompts that RL draws from."""

    scale: Rate | None = None
    """Size of both sets, 1 being the paper's (188,000 SFT examples, 36,000 RL prompts), in place of the two numbers."""
    examples: Positive | None = None
    """SFT examples in all; as many as there are where absent."""
    rl_prompts: Positive | None = None
    """Different prompts of the RL set; as many as there are steps for where absent."""
    targets: dict[Literal["direct", "cot", "reflective"], Share] = {"direct": 0.25, "cot": 0.55, "reflective": 0.2}
    """Shares of the targets; they sum to 1. A target left out is switched off."""
    families: dict[Literal["medical_multimodal", "general_multimodal", "textual_reasoning"], Share] | None = None
    """Shares of the families; as the data has them where absent. A family left out is switched off."""
    balance_modalities: bool = False
    """Within target and family, take the modalities (`modality` of an item's metadata, else image or text) equally
    often, as far as they reach."""
    rl_text: Share | None = None
    """Share of RL prompts without an image; as they come where absent."""

    @property
    def num_examples(self) -> int | None:
        return self.examples if self.scale is None else max(1, round(PAPER_SFT * self.scale))

    @property
    def num_rl_prompts(self) -> int | None:
        return self.rl_prompts if self.scale is None else max(1, round(PAPER_RL * self.scale))

    @model_validator(mode="after")
    def _sums(self) -> Self:
        for name, shares in (("targets", self.targets), ("families", self.families)):
            if shares is not None and abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"{name} sum to {sum(shares.values()):.3f}: make them sum to 1, or leave {name} out")
        if self.scale is not None and (self.examples is not None or self.rl_prompts is not None):
            raise ValueError(
                f"scale {self.scale:g} beside examples {self.examples} and rl_prompts {self.rl_prompts}: give the scale"
                " alone, or leave it out"
            )
        return self
