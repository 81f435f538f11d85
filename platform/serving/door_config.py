"""What a server lets in, and what it keeps: the settings of its door."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from residency.platform.strict import Positive, Strict


class DoorConfig(Strict):
    """Paths are of the nodes that serve; on several nodes they lie on a shared disk."""

    key_digest: str | None = None
    """SHA-256 of the one key that counts."""
    keys_file: str | None = None
    """The file of `residency keys`, in place of one key."""
    body_mib: Positive = 24
    """Largest request (MiB)."""
    images: Positive = 4
    """Images of a request at most."""
    remote_images: tuple[str, ...] = ()
    """Hosts that images may be fetched from (https, public addresses only, no redirects); none by default."""
    media_folder: str | None = None
    """Where `POST /v1/media` keeps images; None refuses uploads."""
    media_mib: Positive = 1024
    """Uploaded images kept in all; the oldest go first (MiB)."""
    audit_folder: str | None = None
    """Where the audit log is written; None keeps none."""
    feedback_folder: str | None = None
    """Where feedback, and what was said with consent, is kept; None refuses feedback."""
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days that feedback is kept."""

    @model_validator(mode="after")
    def _somebody_may_enter(self) -> Self:
        if (self.key_digest is None) == (self.keys_file is None):
            raise ValueError("key_digest and keys_file: exactly one of the two must be given")
        return self
