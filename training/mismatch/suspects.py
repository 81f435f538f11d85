"""The suspects that are tried by scoring a few rows in another way: older weights, other pixels, another dtype."""

import numpy as np

from residency.platform.records import PolicyVersion
from residency.training.mismatch.cause import VANISHED, Cause, Layer
from residency.training.mismatch.evidence import Evidence, difference, joined
from residency.training.mismatch.probes import Case

CONTRAST = 10.0  # times that rows with images must differ more than those without
CORRELATION = 0.4  # of mismatch and rounding; measured 0.5 to 0.7 between vLLM and transformers in bfloat16
SIZES = 3.0  # times that the mismatch may be larger or smaller than what rounding does
FEW = 20  # tokens
BY_STATISTICS = 0.8  # the most that statistics alone explain


def stale_causes(case: Case) -> list[Cause]:
    """Older weights that explain what was sampled; and generators whose echo is not of the learner's weights."""
    probes, wrong = case.probes, wrong_echoes(case)
    tried = {label: case.left(weights=label) for label in probes.older_weights}
    best = min(tried, key=lambda label: tried[label], default=None)
    if best is not None and tried[best] < case.observed:
        fits = "are" if case.explained(tried[best]) >= VANISHED else "are nearer to"
        evidence = (
            f"the sampler's logprobs {fits} those of the weights {best}: scored with them the difference goes from"
            f" {case.observed:.1e} to {tried[best]:.1e}"
        )
        share = case.explained(tried[best])
        return [Cause(layer=Layer.STALE_WEIGHTS, explained=share, evidence="; ".join([evidence, *wrong]))]
    if wrong:
        return [
            Cause(layer=Layer.STALE_WEIGHTS, explained=BY_STATISTICS, evidence="; ".join(wrong), probed=False),
        ]
    return []


def wrong_echoes(case: Case) -> list[str]:
    """What generators answered to the last update, where that is not what the learner published."""
    probes, wanted = case.probes, PolicyVersion.unpack(case.probes.learner_version)
    said: list[str] = []
    for echo in probes.echoes:
        if echo.version != wanted:
            said.append(f"a generator's echo is of version {echo.version}, the learner trains {wanted}")
        elif probes.digests and echo.digests != probes.digests:
            said.append(f"a generator's echo of version {wanted} has other digests than the learner published")
    return said


def image_causes(case: Case, evidence: Evidence) -> list[Cause]:
    """Another way of making pixels that explains it; else rows with images that differ while text agrees."""
    tried = {way: case.left(images=way) for way in case.probes.image_ways}
    best = min(tried, key=lambda way: tried[way], default=None)
    causes: list[Cause] = []
    if best is not None and tried[best] < case.observed:
        text = (
            f"with image processing {best!r} in the trainer the difference goes from {case.observed:.1e} to"
            f" {tried[best]:.1e}"
        )
        causes.append(Cause(layer=Layer.IMAGE_PROCESSING, explained=case.explained(tried[best]), evidence=text))
    image, plain = evidence.with_image, evidence.without_image
    if plain.num_tokens and image.mean > case.budget and image.mean > CONTRAST * plain.mean:
        text = f"rows with images differ by {image.mean:.1e} on average, rows without by {plain.mean:.1e}"
        causes.append(Cause(layer=Layer.IMAGE_PROCESSING, explained=BY_STATISTICS, evidence=text, probed=False))
    return causes


def dtype_causes(case: Case) -> list[Cause]:
    """Another dtype of the trainer's model that explains it, or whose rounding goes the same way.

    Engine and trainer round in different places, so that one dtype on both sides does not make the difference vanish:
    between vLLM in bfloat16 and a trainer in float32 the cast explains less than half of the variance. But both round
    the same weights: where rounding is to blame, what the cast does to the trainer's logprobs correlates with the
    mismatch, is of its size, and neither has a sign.
    """
    probes, ours = case.probes, case.scored()
    mismatch_T = joined([difference(one, row.trained_logprobs) for one, row in zip(ours, case.rows, strict=True)])
    causes: list[Cause] = []
    for dtype in probes.dtypes:
        if dtype == probes.trained_as.dtype:
            continue
        cast = case.scored(dtype=dtype)
        shift_T = joined([difference(one, two) for one, two in zip(ours, cast, strict=True)])
        pairs = zip(cast, case.rows, strict=True)
        left = float(np.abs(joined([difference(two, row.trained_logprobs) for two, row in pairs])).mean())
        correlation = correlated(mismatch_T, shift_T)
        text = (
            f"with the trainer's model in {dtype} the difference goes from {case.observed:.1e} to {left:.1e}; the cast"
            f" moves its logprobs by {np.abs(shift_T).mean():.1e}, in correlation {correlation:.2f} with the mismatch"
        )
        share = max(case.explained(left), max(correlation, 0.0) ** 2)
        rounding = correlation >= CORRELATION and alike(mismatch_T, shift_T)
        if share < VANISHED and rounding:
            share = min(BY_STATISTICS, (1 + correlation) / 2)
            causes.append(Cause(layer=Layer.DTYPE, explained=share, evidence=text, probed=False))
        else:
            causes.append(Cause(layer=Layer.DTYPE, explained=share, evidence=text))
    return causes


def alike(mismatch_T: np.ndarray, shift_T: np.ndarray) -> bool:
    """Whether the mismatch is of the shift's size, and as often up as down."""
    size, shift = float(np.abs(mismatch_T).mean()), float(np.abs(shift_T).mean())
    return shift / SIZES <= size <= shift * SIZES and abs(float(mismatch_T.mean())) <= size / 4


def correlated(one_T: np.ndarray, two_T: np.ndarray) -> float:
    """Pearson's correlation; 0 where one of the two does not vary, or there are too few tokens to tell."""
    if len(one_T) < FEW or not one_T.std() or not two_T.std():
        return 0.0
    return float(np.corrcoef(one_T, two_T)[0, 1])
