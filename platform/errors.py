"""Errors that tell a user what was seen, what was wanted and what to do."""


class ResidencyError(Exception):
    """Any failure that Residency itself explains; ends a command with exit code 1."""

    exit_code = 1

    def __init__(self, seen: str, wanted: str = "", remedy: str = "") -> None:
        super().__init__(seen, wanted, remedy)  # positional, so that it pickles
        self.seen, self.wanted, self.remedy = seen, wanted, remedy

    def __str__(self) -> str:
        parts = [
            self.seen,
            f"Wanted: {self.wanted}" if self.wanted else "",
            f"What to do: {self.remedy}" if self.remedy else "",
        ]
        return " ".join(part.rstrip(".") + "." for part in parts if part)


class BadInputError(ResidencyError, ValueError):
    """A mistake in what the user gave (recipe, data, model folder); ends a command with exit code 2."""

    exit_code = 2


class RecipeError(BadInputError):
    """A recipe or profile that cannot be used."""


class DataError(BadInputError):
    """A dataset, image or annotation that cannot be used."""


class ModelError(BadInputError):
    """A model folder that cannot be used."""


class RunInUseError(BadInputError):
    """Another driver is at work on the run; names its process and host."""


class RoleError(ResidencyError, RuntimeError):
    """A role (generator, verifier, learner, …) failed or was late; names the role and the cause."""


class DeadlineError(RoleError, TimeoutError):
    """A wait came to its deadline; names who is late, in what, after how many seconds."""


class LostObjectError(RoleError):
    """What was handed on by reference is gone from the object store, with its owner or its node: make it again."""


class PoolStoppedError(RoleError):
    """A pool of workers takes no more work: they died one after the other, or it was closed. No request is to blame."""


class WeightUpdateError(RoleError):
    """A weight update did not arrive whole: wrong digest, wrong version or missing tensor; names the bucket."""


class StoppedError(ResidencyError):
    """The run was told to stop and did, saved; exit code 75 (EX_TEMPFAIL): started again it goes on."""

    exit_code = 75


class StorageError(ResidencyError, OSError):
    """The run's disk cannot take what must be written (full, read-only, gone)."""
