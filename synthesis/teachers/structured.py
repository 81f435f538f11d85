"""Reasoning and answer as JSON, for endpoints that hold a reply to a schema; in a trace they are tagged text."""

import re
from typing import Any

import msgspec
from msgspec import Struct

from residency.platform.prompts import render_completion
from residency.platform.records import PromptMode

REASONING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"reasoning": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["reasoning", "answer"],
    "additionalProperties": False,
}
CODE_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(?P<body>.*?)\n\s*```\s*\Z", re.DOTALL)


class _Reply(Struct, forbid_unknown_fields=True):
    reasoning: str
    answer: str


_decoder = msgspec.json.Decoder(_Reply)


def to_tagged(text: str) -> tuple[str, str]:
    """(tagged text, fault) of a reply that was to follow ``REASONING_SCHEMA``; with a fault the text is as it came."""
    fenced = CODE_FENCE.match(text)
    try:
        reply = _decoder.decode(fenced["body"] if fenced else text)
    except msgspec.ValidationError as error:
        return text, f"the reply does not follow the schema: {error}"
    except (msgspec.DecodeError, UnicodeError) as error:
        return text, f"the reply is no JSON: {error}"
    if not reply.answer.strip():
        return text, "the reply's answer is empty"
    return render_completion(reply.answer.strip(), PromptMode.THINK, reply.reasoning.strip()), ""
