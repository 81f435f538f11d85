"""Records of a registry: a version of a model, what is on call, and each change that led there."""

from enum import StrEnum
from typing import Any

import msgspec

from residency.platform.errors import BadInputError

FORMAT = 1


class State(StrEnum):
    """Where a version stands. ``retired`` was stable once; ``refused`` never passed, or was taken back."""

    STABLE = "stable"
    CANARY = "canary"
    RETIRED = "retired"
    REFUSED = "refused"


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What a model folder holds: SHA-256 by file name, of all of it, and of its layout.

    Two folders of one ``layout`` differ in the values of their tensors alone: names, shapes, dtypes, configuration,
    tokenizer and processor are the same, so that weights can be exchanged in a running engine.
    """

    files: dict[str, str]
    digest: str
    layout: str


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version: what it is, where from, who put it here when, and on what evidence.

    ``evidence`` holds rows of `comparisons` (DESIGN §3), or of `evaluation` for a first version; ``when`` is in seconds
    since 1970. The weights lie in ``versions/<id>/`` of the registry, unless it was refused at the gate.
    """

    id: str
    state: State
    model: ModelFiles
    run: str
    checkpoint: str
    who: str
    when: float
    reason: str
    evidence: list[dict[str, Any]] = []

    @property
    def label(self) -> str:
        """``v3 (rl of runs/blood)``."""
        return f"{self.id} ({self.checkpoint} of {self.run})"


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """A version that answers a share (0 to 1) of the sessions."""

    version: str
    share: float
    since: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One line of ``history.jsonl``. ``sequence`` counts from 1 without a gap."""

    sequence: int
    t: float
    kind: str
    version: str
    who: str
    reason: str
    details: dict[str, Any] = {}


class Register(msgspec.Struct, frozen=True, kw_only=True):
    """``registry.json``: all versions and what is on call. ``former`` are the stable ones before, the newest last.

    ``last`` is the change that led here: if its writer dies before it is in the history, the next one puts it there.
    """

    format: int = FORMAT
    model: str
    versions: dict[str, Version] = {}
    stable: str | None = None
    canary: Canary | None = None
    former: list[str] = []
    last: Change | None = None

    @property
    def sequence(self) -> int:
        return self.last.sequence if self.last else 0

    @property
    def next_id(self) -> str:
        return f"v{len(self.versions) + 1}"

    def stable_version(self) -> Version:
        """Raises BadInputError where nothing is on call."""
        if self.stable is None:
            raise BadInputError(
                f"no version of {self.model} is on call", "a stable version", "`residency promote` one first"
            )
        return self.versions[self.stable]
