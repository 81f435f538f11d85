"""Was the batch given the tokens that the engine sampled, or were prompt or completion made a second time?"""

from collections.abc import Sequence
from dataclasses import replace

from residency.training.mismatch.cause import Cause, Layer
from residency.training.mismatch.probes import Case
from residency.training.mismatch.sampled_row import SampledRow


def rebuilt_causes(case: Case) -> list[Cause]:
    """Retokenization, chat template, a prompt with another number of image tokens: ids compared, then scored."""
    return [*retokenized(case), *prompts_made_anew(case), *prompts_told_wrongly(case)]


def retokenized(case: Case) -> list[Cause]:
    """The completion's ids in the batch are not those that were sampled."""
    changed = [row for row in case.rows if row.trained.token_ids != row.sampled.token_ids]
    if not changed:
        return []
    encoded = sum(is_encoded(case, row) for row in changed)
    left = case.left_with([row.with_trained(completion=True) for row in case.rows])
    evidence = (
        f"{len(changed)} of {len(case.rows)} completions in the batch have other ids than the engine sampled,"
        f" {encoded} of them those of their text encoded again: with the sampled ids the difference goes from"
        f" {case.observed:.1e} to {left:.1e}"
    )
    return [Cause(layer=Layer.RETOKENIZATION, explained=case.explained(left), evidence=evidence)]


def is_encoded(case: Case, row: SampledRow) -> bool:
    """Whether the batch's ids begin as the text's do; what stands at the end, as the turn's end, is no text."""
    ids = case.probes.encode(row.text)[: len(row.trained.token_ids)]
    return bool(ids) and row.trained.token_ids[: len(ids)] == ids


def prompts_made_anew(case: Case) -> list[Cause]:
    """The prompt's ids in the batch are not the engine's: by the template, or by the number of image tokens alone."""
    changed = [row for row in case.rows if row.trained.prompt_ids != row.sampled.prompt_ids]
    if not changed:
        return []
    image = case.probes.image_token
    images_only = all(
        without(row.trained.prompt_ids, image) == without(row.sampled.prompt_ids, image) for row in changed
    )
    rendered = sum(row.trained.prompt_ids == case.probes.render(row) for row in changed)
    left = case.left_with([row.with_trained(prompt=True) for row in case.rows])
    where = "in the number of image tokens alone" if images_only else f"first at {first_difference(changed[0])}"
    evidence = (
        f"{len(changed)} of {len(case.rows)} prompts in the batch have other ids than the engine's, {where},"
        f" {rendered} of them those that the trainer's own template gives: with the engine's ids the difference goes"
        f" from {case.observed:.1e} to {left:.1e}"
    )
    layer = Layer.IMAGE_PROCESSING if images_only else Layer.CHAT_TEMPLATE
    return [Cause(layer=layer, explained=case.explained(left), evidence=evidence)]


def prompts_told_wrongly(case: Case) -> list[Cause]:
    """The engine told the ids that the batch has, but what it sampled fits those of the trainer's template better."""
    image, given, differs = case.probes.image_token, [], False
    for row in case.rows:
        ids, tokens = case.probes.render(row), row.trained
        if (
            ids is not None
            and ids != tokens.prompt_ids
            and images_in(ids, image) == images_in(tokens.prompt_ids, image)
        ):
            tokens, differs = replace(tokens, prompt_ids=ids), True
        given.append((tokens, row.trained_logprobs))
    left = case.left_with(given) if differs else case.observed
    if left >= case.observed:
        return []
    evidence = (
        "the trainer's own template gives other prompts than the batch has, and they fit what was sampled better: with"
        f" them the difference goes from {case.observed:.1e} to {left:.1e}"
    )
    return [Cause(layer=Layer.CHAT_TEMPLATE, explained=case.explained(left), evidence=evidence)]


def images_in(ids: Sequence[int], image: int | None) -> int:
    """How many of them stand for images."""
    return sum(one == image for one in ids)


def without(ids: Sequence[int], token: int | None) -> list[int]:
    return [one for one in ids if one != token]


def first_difference(row: SampledRow) -> str:
    """Where a row's two prompts part, in words."""
    ours, theirs = row.trained.prompt_ids, row.sampled.prompt_ids
    pairs = enumerate(zip(ours, theirs, strict=False))
    at = next((at for at, (one, two) in pairs if one != two), min(len(ours), len(theirs)))
    return f"place {at} of {len(ours)} and {len(theirs)}"
