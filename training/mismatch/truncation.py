"""Which temperature, top-k or top-p would explain what the sampler said."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from residency.training.mismatch.cause import Cause, Layer
from residency.training.mismatch.evidence import difference, joined
from residency.training.mismatch.probes import Case, Scoring

TEMPERATURES = (0.05, 20.0)
LARGEST_TOP_K = 2**20
FITTED = 0.8  # share below which a fit says nothing: a high temperature softens whatever is wrong
EXACT = 0.999  # share explained that ends the search
TOP_P_DIGITS = 20  # halvings of (0, 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """The way of scoring that comes nearest to the sampler, and what is left of the mismatch (nats)."""

    how: Scoring
    left: float


def truncation_causes(case: Case) -> list[Cause]:
    """One cause, of the best of all fits, where it explains nearly everything."""
    best = Fit(how=case.probes.trained_as, left=case.observed)
    for fit in fits(case):
        best = min(best, fit, key=lambda each: each.left)
        if case.explained(best.left) >= EXACT:
            break
    trained, share = case.probes.trained_as, case.explained(best.left)
    if share < FITTED:
        return []
    evidence = (
        f"the sampler's logprobs are those of {in_words(best.how)}, the trainer scored with {in_words(trained)}:"
        f" scored the sampler's way the difference goes from {case.observed:.1e} to {best.left:.1e}"
    )
    return [Cause(layer=Layer.TRUNCATION, explained=share, evidence=evidence)]


def fits(case: Case) -> Iterator[Fit]:
    """No truncation at all, then each of the three fitted while the others are as trained, or off."""
    trained = case.probes.trained_as
    plain = replace(trained, top_k=0, top_p=1.0)
    yield measured(case, replace(plain, temperature=1.0))
    for base in dict.fromkeys((trained, plain)):
        yield measured(case, base)
        yield fit_temperature(case, base)
        yield fit_top_k(case, base)
        yield fit_top_p(case, base)


def fit_temperature(case: Case, base: Scoring) -> Fit:
    """By minimization, then rounded where that costs nothing."""

    def left(logarithm: float) -> float:
        return measured(case, replace(base, temperature=float(np.exp(logarithm)))).left

    found = minimize_scalar(left, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-7})
    exact = float(np.exp(found.x))  # pyright: ignore[reportAttributeAccessIssue] (OptimizeResult's fields are dynamic)
    tried = [measured(case, replace(base, temperature=value)) for value in (exact, round(exact, 2)) if value > 0]
    return min(reversed(tried), key=lambda fit: max(fit.left, case.budget))


def fit_top_k(case: Case, base: Scoring) -> Fit:
    """By halving: the fewer tokens are kept, the likelier the trainer finds what was sampled."""
    low, high, best = 1, LARGEST_TOP_K, measured(case, replace(base, top_k=0))
    while low <= high:
        middle = int(np.sqrt(low * high))
        how = replace(base, top_k=middle)
        best, trainer_is_higher = nearer(case, how, best)
        low, high = (middle + 1, high) if trainer_is_higher else (low, middle - 1)
    return best


def fit_top_p(case: Case, base: Scoring) -> Fit:
    """By halving, in the same way."""
    low, high, best = 0.0, 1.0, measured(case, replace(base, top_p=1.0))
    for _ in range(TOP_P_DIGITS):
        middle = (low + high) / 2
        how = replace(base, top_p=middle)
        best, trainer_is_higher = nearer(case, how, best)
        low, high = (middle, high) if trainer_is_higher else (low, middle)
    rounded = measured(case, replace(base, top_p=round(best.how.top_p, 2) or best.how.top_p))
    return rounded if rounded.left <= max(best.left, case.budget) else best


def nearer(case: Case, how: Scoring, best: Fit) -> tuple[Fit, bool]:
    """The better of the two, and whether the trainer, scoring in this way, is above the sampler on average."""
    differences_T = differences(case, how)
    fit = Fit(how=how, left=float(np.abs(differences_T).mean()))
    return (fit if fit.left < best.left else best), float(differences_T.mean()) > 0


def measured(case: Case, how: Scoring) -> Fit:
    return Fit(how=how, left=float(np.abs(differences(case, how)).mean()))


def differences(case: Case, how: Scoring) -> np.ndarray:
    """Trainer's, scored in this way, − sampler's, of all tokens of the case."""
    ours = case.probes.score([row.trained for row in case.rows], how)
    pairs = zip(ours, case.rows, strict=True)
    return joined([difference(logprobs, row.trained_logprobs) for logprobs, row in pairs])


def in_words(how: Scoring) -> str:
    parts = [f"temperature {how.temperature:.4g}"]
    parts += [f"top-k {how.top_k}"] * bool(how.top_k) + [f"top-p {how.top_p:.4g}"] * (how.top_p < 1)
    return ", ".join(parts)
