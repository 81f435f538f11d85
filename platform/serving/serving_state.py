"""What is on call: the document that Serve hands to each replica as ``user_config``, validated."""

from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from residency.platform.errors import BadInputError
from residency.platform.strict import Strict

NOTICE = "Not medical advice. A qualified professional must check every answer."


class Version(Strict):
    """One version of a model: weights that do not change."""

    path: str
    """A Hugging Face folder, at the same place on every node that serves."""
    digest: str = ""
    """SHA-256 of the folder's content, as the registry wrote it."""
    checkpoint: str = ""
    """What the version is to people: a run and its stage."""
    adapter: str | None = None
    """A LoRA adapter's folder on top of `path`."""


class Canary(Strict):
    """A version that takes a share of the sessions."""

    version: str
    share: Annotated[float, Field(ge=0, le=1)]
    """Share of the sessions (0 to 1)."""


class ServingState(Strict):
    """Which version of a model answers, and which one is on trial."""

    model: str
    """The public name that callers ask for."""
    versions: dict[str, Version]
    stable: str
    canary: Canary | None = None

    @model_validator(mode="after")
    def _known_versions(self) -> Self:
        wanted = [self.stable] + ([self.canary.version] if self.canary else [])
        absent = [version for version in wanted if version not in self.versions]
        if absent:
            raise ValueError(f"{', '.join(absent)} is on call, and versions has only {', '.join(self.versions)}")
        if "@" in self.model:
            raise ValueError(f"model {self.model!r} has an @, which separates a name from a version")
        return self

    @property
    def on_call(self) -> tuple[str, ...]:
        """Ids of the versions that answer now, the stable one first."""
        trial = self.canary
        return (self.stable,) if trial is None or trial.version == self.stable else (self.stable, trial.version)

    def label(self, version: str) -> dict[str, str]:
        """What every reply says of who answered (field ``residency``)."""
        checkpoint = self.versions[version].checkpoint
        return {"model": self.model, "checkpoint": checkpoint, "version": version, "notice": NOTICE}


def parse_state(document: Any) -> ServingState:
    """The validated state; raises BadInputError that names every mistake."""
    try:
        return ServingState.model_validate(document)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'state'}: {each['msg']}" for each in error.errors())
        raise BadInputError(f"the serving state has mistakes: {mistakes}", "model, versions, stable, canary") from error


def parse_states(document: Any) -> dict[str, ServingState]:
    """The states of a ``user_config`` by model: one state, or ``{"models": [state, …]}`` with a replica's own first."""
    documents = document["models"] if isinstance(document, dict) and "models" in document else [document]
    return {state.model: state for state in map(parse_state, documents)}
