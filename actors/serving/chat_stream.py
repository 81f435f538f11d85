"""vLLM's stream of events on its way out: who answered goes into the first one, a broken structured answer ends it."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from residency.platform.serving.clinical_answer import is_clinical_answer
from residency.platform.serving.refusals import Refusal
from residency.platform.serving.replies import Usage

START, DONE = b"data: ", b"data: [DONE]\n\n"
INCOMPLETE = "structured_answer_incomplete"


def incomplete(finish_reason: str) -> Refusal:
    """422: the answer broke off before it was whole; what there was of it is not given out."""
    return Refusal(
        422,
        INCOMPLETE,
        f"The structured answer was not complete (finish reason: {finish_reason}). Allow more tokens, or ask for less.",
        "max_tokens",
    )


async def labelled_stream(
    events: AsyncGenerator[str, None], label: dict[str, str], usage: Usage, state: Any
) -> AsyncGenerator[bytes, None]:
    """The events as bytes, the label in the first one; ``usage`` is filled at the end from vLLM's ``state``.

    Of a stream that is left before its end the events are counted: about as many as its tokens.
    """
    first = b'data: {"residency":' + json.dumps(label).encode() + b","
    waiting = True
    async with aclosing(events):
        async for event in events:
            piece = event.encode()
            if waiting and piece.startswith(b"data: {"):
                piece, waiting = first + piece[len(b"data: {") :], False
            usage.completion_tokens += 1
            yield piece
    found = getattr(state.request_metadata, "final_usage_info", None)
    if found is not None:
        usage.prompt_tokens, usage.completion_tokens = found.prompt_tokens, found.completion_tokens or 0


async def checked_stream(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """A structured answer's events; where it does not come out whole, an error event stands before the end."""
    text, reason, failed = "", "", False
    async with aclosing(pieces):
        async for piece in pieces:
            if piece == DONE:
                if not failed and not is_clinical_answer(text):
                    yield START + incomplete(reason or "unknown").body() + b"\n\n"
                yield piece
                continue
            event = json.loads(piece[len(START) :])
            failed = failed or "error" in event
            for choice in event.get("choices", ()):
                text += choice["delta"].get("content") or ""
                reason = choice.get("finish_reason") or reason
            yield piece
