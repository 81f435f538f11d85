"""Whether a model's chat template takes a message as parts (text, images) or as one string, as text-only ones do."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

PROBE = "Is this text or a list?"


def takes_parts(processor: Any) -> bool:
    """Found out by rendering one: a template for strings prints the list, or fails on it."""
    chat = [{"role": "user", "content": [{"type": "text", "text": PROBE}]}]
    try:
        text: str = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except (TypeError, TemplateError):
        return False
    return PROBE in text and "'type'" not in text and '"type"' not in text


def message_content(parts: Sequence[dict[str, str]], as_parts: bool) -> Any:
    """The parts, or their text as one string."""
    return list(parts) if as_parts else "".join(part.get("text", "") for part in parts)
