"""The images of a request: data URLs as they are, uploaded ones by their hash, remote ones only from allowed hosts."""

import base64
import re
from collections.abc import Awaitable, Callable
from typing import Any

from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.refusals import Refusal, bad_request
from residency.platform.serving.uploads import Uploads

HASH = re.compile(r"sha256:([0-9a-f]{64})")
DATA_URL = re.compile(r"data:image/[a-z0-9.+-]{1,32};base64,", re.IGNORECASE)
Fetch = Callable[[str], Awaitable[bytes]]


async def resolve_images(
    messages: list[Any], config: DoorConfig, uploads: Uploads | None, fetch: Fetch
) -> list[dict[str, Any]]:
    """The messages with every image as a data URL; raises Refusal for what is no text and no image that may be used.

    What else a part may say to the engine (cache keys, other media) is left out or refused.
    """
    count = 0
    changed = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            parts = []
            for part in content:
                kind = part.get("type") if isinstance(part, dict) else None
                if kind == "text" and isinstance(part.get("text"), str):
                    parts.append({"type": "text", "text": part["text"]})
                elif kind == "image_url":
                    count += 1
                    if count > config.images:
                        raise bad_request(f"A request has at most {config.images} images.", "messages", "too_many")
                    url = await _data_url(part.get("image_url"), config, uploads, fetch)
                    parts.append({"type": "image_url", "image_url": {"url": url}})
                else:
                    raise bad_request("A part of `content` is of the type text or image_url.", "messages")
            message = message | {"content": parts}
        elif not isinstance(content, str):
            raise bad_request("`content` is a text or a list of parts.", "messages")
        changed.append(message)
    return changed


async def _data_url(named: Any, config: DoorConfig, uploads: Uploads | None, fetch: Fetch) -> str:
    url = named.get("url") if isinstance(named, dict) else named
    if not isinstance(url, str):
        raise bad_request("`image_url` holds a `url`.", "messages")
    if DATA_URL.match(url):
        return url
    found = HASH.fullmatch(url)
    if found:
        if uploads is None:
            raise bad_request("This server keeps no uploaded images.", "messages", "media_not_found")
        return png_url(uploads.read(found[1]))
    if url[:8].lower() == "https://" and config.remote_images:
        return png_url(await fetch(url))
    raise Refusal(
        400,
        "image_not_allowed",
        "An image is a data URL (data:image/png;base64,…) or the hash of an uploaded one (sha256:…); this one is not"
        " fetched.",
        "messages",
    )


def png_url(png: bytes) -> str:
    """Image bytes as a data URL; the engine looks at the bytes, not at the name of the type."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
