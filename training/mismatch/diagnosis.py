"""Why sampler and trainer differ: every suspect tried on a few rows, ranked by how much each explains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from residency.platform.errors import RoleError
from residency.training.mismatch.cause import Cause, Layer
from residency.training.mismatch.evidence import Evidence, gather_evidence, mean_difference
from residency.training.mismatch.meter import MismatchError
from residency.training.mismatch.probes import Case, Probes
from residency.training.mismatch.rebuilt_tokens import rebuilt_causes
from residency.training.mismatch.sampled_row import SampledRow, fresh_rows
from residency.training.mismatch.suspects import dtype_causes, image_causes, stale_causes
from residency.training.mismatch.truncation import truncation_causes

NUM_ROWS = 16  # that the probes are tried on
MENTIONED = 0.05  # share that a cause must explain to be told at all


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """``causes``: best first. ``measured`` is the meter's mean, ``observed`` the same of a plain forward (nats)."""

    measured: float
    observed: float
    budget: float
    causes: tuple[Cause, ...]
    evidence: Evidence

    @property
    def likely(self) -> Cause | None:
        """The first cause, if it explains the greater part."""
        return self.causes[0] if self.causes and self.causes[0].likely else None

    @property
    def layer(self) -> Layer | None:
        return self.likely.layer if self.likely else None

    def why(self) -> str:
        """The cause in a sentence, or that there is none."""
        if self.likely is not None:
            return f"{'' if self.likely.proven else 'likely '}cause: {self.likely.layer}: {self.likely.evidence}"
        if self.observed <= self.budget:
            return (
                f"unexplained: a plain forward of the same weights and tokens differs from the sampler by"
                f" {self.observed:.1e} only, so that it is the learner's own pass that is off"
            )
        nearest = f"; nearest was {self.causes[0].layer}, {self.causes[0].evidence}" if self.causes else ""
        return (
            "unexplained: it is neither dtype, truncation, stale weights, chat template, image processing nor"
            f" retokenization as far as could be probed{nearest}"
        )

    def remedy(self) -> str:
        """What to do about it."""
        if self.likely is not None:
            return self.likely.remedy
        if self.observed <= self.budget:
            return (
                "try other learners.zero_stage, num_ranks or dtype in the profile, and report it with the run's event"
            )
        return "see the event `mismatch` for where they differ, or raise rl.max_mismatch"

    def error(self, step: int) -> MismatchError:
        """What ends the run: what was seen and why, what was wanted, what to do."""
        return MismatchError(
            f"step {step}: sampler's and trainer's logprobs under the same weights differ by {self.measured:.2e} on"
            f" average; {self.why()}",
            f"at most {self.budget:.0e}",
            self.remedy(),
        )

    def details(self) -> dict[str, Any]:
        """For the event ``mismatch`` of the run."""
        return {
            "measured": self.measured,
            "observed": self.observed,
            "budget": self.budget,
            "layer": str(self.layer) if self.layer else "unexplained",
            "causes": [
                {"layer": str(cause.layer), "explained": round(cause.explained, 4), "proven": cause.proven,
                 "evidence": cause.evidence}
                for cause in self.causes
            ],
            "evidence": self.evidence.details(),
        }  # fmt: skip


def diagnose(rows: Sequence[SampledRow], probes: Probes, budget: float, measured: float) -> Diagnosis:
    """Score the rows as the trainer did, then try every suspect on those that differ most.

    ``rows`` are of one step; those that older weights had a part in are left out. ``measured``: the meter's mean.
    Raises RoleError where no row is left.
    """
    fresh = fresh_rows(rows, probes.learner_version)
    if not fresh:
        raise RoleError(f"none of {len(rows)} rows is wholly of the learner's weights", "some to compare")
    trained = probes.score([row.trained for row in fresh], probes.trained_as)
    evidence = gather_evidence(fresh, trained)
    sizes = [mean_difference([ours], [row.trained_logprobs]) for ours, row in zip(trained, fresh, strict=True)]
    # Only rows that differ: with one generator of several at fault the others' would hide what explains its rows.
    beyond = [at for at in range(len(fresh)) if sizes[at] > budget]
    worst = sorted(beyond, key=lambda at: -sizes[at])[:NUM_ROWS]
    observed = mean_difference([trained[at] for at in worst], [fresh[at].trained_logprobs for at in worst])
    causes: list[Cause] = []
    if evidence.whole.mean > budget:
        case = Case(rows=tuple(fresh[at] for at in worst), probes=probes, observed=observed, budget=budget)
        # Those that ask for other weights or another dtype come last: the model is loaded anew for each.
        causes += [*rebuilt_causes(case), *truncation_causes(case), *image_causes(case, evidence)]
        causes += [*dtype_causes(case), *stale_causes(case)]
    causes.sort(key=lambda cause: (not cause.proven, -cause.explained))
    told = tuple(cause for cause in causes if cause.explained >= MENTIONED)
    return Diagnosis(measured=measured, observed=evidence.whole.mean, budget=budget, causes=told, evidence=evidence)
