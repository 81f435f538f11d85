"""The recipe's `data.gates` and `data.duplicates`: what is left out before anything is taught or examined."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from residency.platform.strict import Rate, Share, Strict
from residency.platform.synthesis_config import TeacherConfig

RuleGate = Literal["licence", "dicom_tags", "consistency", "identifying_text", "image_sanity"]
RULE_GATES: tuple[RuleGate, ...] = ("licence", "dicom_tags", "consistency", "identifying_text", "image_sanity")


class GatesConfig(Strict):
    """Which items may be used at all (docs/gates.md)."""

    rules: tuple[RuleGate, ...] = RULE_GATES
    """Gates that need no model; a name left out is not asked."""
    licences: tuple[str, ...] = ()
    """Licences that you let in by name; `unknown`: items without a known one. Whether you may is yours to know."""
    teacher: TeacherConfig | None = None
    """Who rates and tries the items, `vllm` or `openai`; for `rubric` and `blank_samples` only."""
    rubric: bool = False
    """Let the teacher rate alignment, completeness and logic 0, 1 or 2; any 0 refuses (InfiMed2)."""
    blank_samples: Annotated[int, Field(ge=0)] = 0
    """Samples an item with its images and as many with blank ones: what is solved blind is marked; 0 leaves it out."""
    overrules: str | None = None
    """A person's decisions: `lineage/gates.csv` of an earlier run, edited; none where absent."""

    @model_validator(mode="after")
    def _teacher_has_work(self) -> Self:
        needs = self.rubric or self.blank_samples > 0
        if needs != (self.teacher is not None):
            raise ValueError(
                f"rubric {self.rubric}, blank_samples {self.blank_samples}, {'a' if self.teacher else 'no'} teacher:"
                " these two need a teacher, and a teacher needs one of them"
            )
        if self.teacher is not None and self.teacher.kind not in ("vllm", "openai"):
            raise ValueError(f"a gate's teacher of kind {self.teacher.kind!r}: take `vllm` or `openai`")
        if 0 < self.blank_samples < 4:
            raise ValueError(
                f"blank_samples {self.blank_samples}: so few are solved by luck; take at least 4, or 0 to leave it out"
            )
        return self


class DuplicatesConfig(Strict):
    """What counts as the same question, and what becomes of it (docs/contamination.md)."""

    hash_distance: Annotated[int, Field(ge=0, le=8)] | None = 8
    """Differing bits (of 64) up to which two picture files are compared closely; null: only equal files are one
    picture, which is right for tiny or drawn pictures."""
    picture_residual: Rate = 0.13
    """Largest difference within one part of two aligned pictures that are one (standard deviations)."""
    question_similarity: Share = 0.6
    """Share of content words that must agree where picture and answer do; yes/no questions need all, long ones 0.9."""
    within_split: bool = True
    """Leave repeats within one split out; leaks between splits and from benchmarks are left out in any case."""
    benchmarks: tuple[str, ...] = ()
    """Dataset folders that no train item may repeat, beside those of `evaluation.datasets`."""
    overrules: str | None = None
    """A person's decisions: `lineage/duplicates/review.csv` of an earlier run, edited; none where absent."""
