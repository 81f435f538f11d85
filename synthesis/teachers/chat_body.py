"""The bytes of a chat request, and a chat completion out of the bytes that came back."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from residency.platform.prompts import IMAGE_MARKER

SHOWN = 300  # characters of a bad body that are kept


class _Part(Struct):
    type: str
    text: str = ""


class _Message(Struct):
    content: str | list[_Part] | None = None


class _Choice(Struct):
    message: _Message
    finish_reason: str | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(Struct):
    choices: list[_Choice]
    usage: _Usage | None = None
    model: str = ""
    system_fingerprint: str | None | UnsetType = UNSET


class Completion(Struct, frozen=True, gc=False):
    """What a body says; ``fault`` why it is malformed (then ``text`` holds its beginning)."""

    text: str
    finish_reason: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    model: str = ""
    revision: str = ""
    fault: str = ""


_decoder = msgspec.json.Decoder(_Completion)
encode_body = msgspec.json.Encoder().encode


def data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def user_content(prompt: str, image_urls: Sequence[str]) -> str | list[dict[str, Any]]:
    """The user's message: images where the prompt marks them, else before the text; text alone where there are none."""
    if not image_urls:
        return prompt
    pieces = prompt.split(IMAGE_MARKER)
    if len(pieces) - 1 != len(image_urls):
        pieces = [*[""] * len(image_urls), "".join(pieces)]
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(pieces):
        if number:
            parts.append({"type": "image_url", "image_url": {"url": image_urls[number - 1]}})
        if piece.strip():
            parts.append({"type": "text", "text": piece.strip("\n")})
    return parts


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": dict(schema)}}


def parse_completion(data: bytes) -> Completion:
    """The first choice of a chat completion; never raises for what an endpoint may send."""
    try:
        found = _decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        return Completion(data[:SHOWN].decode(errors="replace"), fault=f"the body is no chat completion: {error}")
    usage = found.usage or _Usage()
    numbers = (max(usage.prompt_tokens, 0), max(usage.completion_tokens, 0))
    revision = found.system_fingerprint if isinstance(found.system_fingerprint, str) else ""
    if not found.choices:
        return Completion("", "", *numbers, found.model, revision, "the completion has no choices")
    choice = found.choices[0]
    content = choice.message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content or () if part.type == "text")
    reason = choice.finish_reason or ""
    fault = "" if text.strip() else "the completion is empty"
    return Completion(text, reason, *numbers, found.model, revision, fault)
