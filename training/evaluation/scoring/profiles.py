"""A scoring profile: how a question is put and how its answer is read. A score means nothing without its label."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from residency.platform.errors import BadInputError
from residency.platform.records import Item, PromptMode, Verdict
from residency.training.evaluation.scoring import medevalkit_prompts, medevalkit_scoring, strict


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoringProfile:
    """``prompt(item, mode)`` is the user's text; ``score(item, trace_id, text, mode)`` the verdict on a completion.

    Both are pure functions of a module, so a profile pickles. ``version`` changes whenever a verdict may change.
    """

    name: str
    version: str
    prompt: Callable[[Item, PromptMode], str]
    score: Callable[[Item, str, str, PromptMode], Verdict]

    @property
    def label(self) -> str:
        """Name and version, as printed beside every score: ``strict-1``."""
        return f"{self.name}-{self.version}"


STRICT = ScoringProfile(name=strict.NAME, version=strict.VERSION, prompt=strict.prompt, score=strict.score)
MEDEVALKIT = ScoringProfile(
    name=medevalkit_scoring.NAME,
    version=medevalkit_scoring.VERSION,
    prompt=medevalkit_prompts.prompt,
    score=medevalkit_scoring.score,
)
PROFILES: Mapping[str, ScoringProfile] = MappingProxyType({profile.name: profile for profile in (STRICT, MEDEVALKIT)})


def find_profile(name: str) -> ScoringProfile:
    """The profile of this name; raises BadInputError for an unknown one."""
    if name not in PROFILES:
        raise BadInputError(f"the scoring profile {name!r}", f"one of {', '.join(PROFILES)}")
    return PROFILES[name]
