"""The mismatch meter: do sampler and trainer, under the same weights, give the same token the same logprob?"""

import math
from typing import Protocol

from residency.platform.errors import RecipeError, RoleError

# fp32 kernels of vLLM and transformers agree to 1.4e-6 at most on CPU; bfloat16 has 8 bits of mantissa.
BUDGETS = {"float32": 1e-5, "bfloat16": 5e-2}


class MismatchError(RoleError):
    """Sampler and trainer differ by more than the recipe allows; names the likely layer once it was diagnosed."""


class FreshStats(Protocol):
    """Sums over the tokens of rows that were sampled wholly by the weights that are trained (``BatchStats``).

    A row with one older token is left out as a whole: its later tokens were sampled on keys and values of the older
    weights, and a difference is there by construction.
    """

    @property
    def num_fresh_tokens(self) -> int: ...
    @property
    def fresh_mismatch_sum(self) -> float: ...
    @property
    def fresh_mismatch_max(self) -> float: ...


def budget(max_mismatch: float | None, dtype: str) -> float:
    """Mean |difference| (nats a token) above which a run stops: the recipe's, else the one of the learners' dtype.

    Raises RecipeError for a dtype that has none.
    """
    if max_mismatch is not None:
        return max_mismatch
    if dtype not in BUDGETS:
        raise RecipeError(
            f"dtype {dtype} has no usual mismatch", f"one of {', '.join(BUDGETS)}", "write rl.max_mismatch"
        )
    return BUDGETS[dtype]


def fresh_mismatch(stats: FreshStats) -> float | None:
    """Mean |difference| of the step's fresh tokens (nats); None where it had none, so that nothing was measured."""
    return stats.fresh_mismatch_sum / stats.num_fresh_tokens if stats.num_fresh_tokens else None


def check_mismatch(stats: FreshStats, budget: float, step: int) -> MismatchError | None:
    """An error to raise where the step's mean is beyond the budget, or not a number; None where it is within.

    Raise it as it is, or diagnose first and raise ``Diagnosis.error`` in its place.
    """
    mean = fresh_mismatch(stats)
    if mean is None or mean <= budget:  # a NaN is not
        return None
    return MismatchError(
        seen(step, mean, stats.num_fresh_tokens, stats.fresh_mismatch_max),
        f"at most {budget:.0e}",
        "look for stale weights, another dtype, truncation, chat template, image processing or retokenization; or raise"
        " rl.max_mismatch",
    )


def seen(step: int, mean: float, num_tokens: int, largest: float) -> str:
    """The sentence that every error of the meter begins with."""
    size = f"{mean:.2e} on average and {largest:.2e} at most" if math.isfinite(mean) else "a number that is not finite"
    return f"step {step}: sampler's and trainer's logprobs of {num_tokens} tokens of the same weights differ by {size}"
