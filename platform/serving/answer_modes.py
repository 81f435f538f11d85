"""How a request wants to be answered, and what that changes in the request. Pure: dictionaries in, dictionaries out."""

import copy
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from residency.platform.prompts import DIRECT_INSTRUCTION, THINK_INSTRUCTION
from residency.platform.serving.clinical_answer import STRUCTURED_INSTRUCTION, clinical_grammar
from residency.platform.serving.refusals import bad_request


class AnswerMode(StrEnum):
    """``raw`` is what a request gets that names none: the model's own text, nothing added to the question."""

    RAW = "raw"
    DIRECT = "direct"
    THINK = "think"
    STRUCTURED = "structured"


INSTRUCTIONS = {
    AnswerMode.DIRECT: DIRECT_INSTRUCTION,
    AnswerMode.THINK: THINK_INSTRUCTION,
    AnswerMode.STRUCTURED: STRUCTURED_INSTRUCTION,
}
OWN_FIELD = "residency"
OWN_KEYS = frozenset({"mode", "consent"})
# What a request may say. vLLM knows more (templates, processor arguments, beam search, transfer of caches, …), which
# would let a caller change how the server works, or ask for far more work than a request is counted for.
FIELDS = frozenset(
    str.split(
        "messages model frequency_penalty logit_bias logprobs top_logprobs max_tokens max_completion_tokens n"
        " presence_penalty response_format seed stop stream stream_options temperature top_p user top_k min_p"
        " repetition_penalty ignore_eos min_tokens skip_special_tokens include_reasoning"
    )
)
# OpenAI's, without a meaning here: accepted, so that clients that always send them work
WITHOUT_MEANING = frozenset(str.split("metadata store service_tier safety_identifier prompt_cache_key verbosity"))
ROLES = ("system", "user", "assistant")
MOST_CHOICES = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """A request taken apart: ``body`` is what the engine gets, without our own field."""

    body: dict[str, Any]
    mode: AnswerMode
    consent: bool


def read_request(document: Any) -> Asked:
    """The mode applied to the request; raises Refusal (400) for what is not understood. ``document`` is not changed."""
    if not isinstance(document, dict):
        raise bad_request(f"The body is a JSON {type(document).__name__}; an object is wanted.")
    unknown = sorted(str(name) for name in document.keys() - FIELDS - WITHOUT_MEANING - {OWN_FIELD})
    if unknown:
        raise bad_request(f"Unknown fields: {', '.join(unknown)[:200]}.", unknown[0][:80], "unknown_parameter")
    body = {name: value for name, value in document.items() if name in FIELDS}
    own = document.get(OWN_FIELD) or {}
    if not isinstance(own, dict) or own.keys() - OWN_KEYS:
        raise bad_request(f"`{OWN_FIELD}` takes {', '.join(sorted(OWN_KEYS))}.", OWN_FIELD)
    consent = own.get("consent", False)
    if not isinstance(consent, bool):
        raise bad_request("`residency.consent` is true or false.", "residency.consent")
    _check_sizes(body)
    mode = own.get("mode", AnswerMode.RAW)
    if mode not in list(AnswerMode):
        raise bad_request(f"`residency.mode` is one of {', '.join(AnswerMode)}.", "residency.mode")
    return Asked(_with_mode(body, AnswerMode(mode)), AnswerMode(mode), consent)


def _check_sizes(body: dict[str, Any]) -> None:
    choices = body.get("n")
    if choices is not None and (type(choices) is not int or not 1 <= choices <= MOST_CHOICES):
        raise bad_request(f"`n` is a whole number from 1 to {MOST_CHOICES}.", "n")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise bad_request("`messages` is a list of one or more objects.", "messages")
    if any(each.get("role") not in ROLES or each.get("content") is None for each in messages):
        raise bad_request(f"A message has a `role` ({', '.join(ROLES)}) and a `content`.", "messages")


def _with_mode(body: dict[str, Any], mode: AnswerMode) -> dict[str, Any]:
    if mode is AnswerMode.RAW:
        return body
    if mode is AnswerMode.STRUCTURED:
        if body.get("response_format") is not None or (body.get("n") or 1) > 1:
            raise bad_request("A structured answer takes no `response_format`, and `n` is 1.", "residency.mode")
        # The grammar takes a special token for its text; if it were left out of the reply, less would be there than was
        # allowed.
        body = body | {"structured_outputs": {"grammar": clinical_grammar()}, "skip_special_tokens": False}
    return body | {"messages": with_instruction(body["messages"], INSTRUCTIONS[mode])}


def with_instruction(messages: list[dict[str, Any]], instruction: str) -> list[dict[str, Any]]:
    """The messages with the instruction as the last line of the last user's text, unless that already says it."""
    places = [place for place, message in enumerate(messages) if message.get("role") == "user"]
    if not places:
        raise bad_request("A mode wants a message of the role `user`.", "messages")
    changed = list(messages)
    message = copy.copy(messages[places[-1]])
    changed[places[-1]] = message
    content = message.get("content")
    if isinstance(content, str):
        message["content"] = _joined(content, instruction)
        return changed
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise bad_request("`content` is a text or a list of parts.", "messages")
    texts = [place for place, part in enumerate(content) if part.get("type") == "text"]
    parts = [*content]
    if texts and isinstance(content[texts[-1]].get("text"), str):
        parts[texts[-1]] = content[texts[-1]] | {"text": _joined(content[texts[-1]]["text"], instruction)}
    else:
        parts.append({"type": "text", "text": instruction})
    message["content"] = parts
    return changed


def _joined(text: str, instruction: str) -> str:
    return text if text.rstrip().endswith(instruction) else f"{text.rstrip()}\n{instruction}"
