"""What every teacher is to the pipeline: one question in, one reply out, whoever writes it."""

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from residency.platform.errors import BadInputError, RoleError
from residency.platform.records import Item


class TeacherError(RoleError):
    """A request came to nothing after all its attempts; another try, later, may succeed."""


class TeacherRefusedError(BadInputError):
    """The endpoint takes nothing from us at all (key, address or model name): asking on would be in vain."""


class TeacherRequest(Struct, frozen=True, kw_only=True, gc=False):
    """One sample of one item. ``key`` is the journal's; ``prompt`` the rendered text, ``media`` hashes of images.

    ``prompt_hash`` names the prompt's file, ``schema`` is the JSON schema that the reply is to follow, if any.
    ``seed`` is already that of this sample: the item's own plus ``sample``.
    """

    key: str
    item: Item
    sample: int
    prompt: str
    prompt_hash: str
    media: tuple[str, ...] = ()
    temperature: float
    seed: int
    max_tokens: int
    schema: Mapping[str, Any] | None = None


class TeacherReply(Struct, frozen=True, kw_only=True, gc=False):
    """What came back. ``fault`` says why a reply is malformed, and is empty where it is sound.

    ``cost`` is by the teacher's prices; ``attempts`` counts the calls that it took, failed ones included.
    """

    text: str
    finish_reason: str  # stop | length | refused | what the endpoint says
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    model: str
    revision: str = ""
    attempts: int = 1
    fault: str = ""


class Teacher(Protocol):
    """``in_flight`` is how many requests it takes at once."""

    name: str
    in_flight: int

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        """The reply; malformed ones come back with their fault.

        Raises TeacherError for one request that failed, TeacherRefusedError where all of them would.
        """
        ...

    async def close(self) -> None: ...
