"""The texts of a reply, for those who agreed that it is kept: of a whole body, or gathered while it streams by."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

PREFIX = b"data: {"


@dataclass(slots=True)
class ReplyTexts:
    """Id, reasoning, answer and finish reason of the first choice."""

    id: str = ""
    reasoning: str = ""
    answer: str = ""
    finish_reason: str = ""

    def read(self, body: bytes) -> None:
        """Of a chat completion."""
        document = json.loads(body)
        choice = document["choices"][0]
        message = choice["message"]
        self.id, self.finish_reason = document["id"], choice.get("finish_reason") or ""
        self.reasoning, self.answer = message.get("reasoning") or "", message.get("content") or ""

    async def gather(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The pieces unchanged, read on their way."""
        async with aclosing(pieces):
            async for piece in pieces:
                if piece.startswith(PREFIX):
                    document = json.loads(piece[len(PREFIX) - 1 :])
                    self.id = document.get("id", self.id)
                    for choice in document.get("choices", ())[:1]:
                        self.reasoning += choice["delta"].get("reasoning") or ""
                        self.answer += choice["delta"].get("content") or ""
                        self.finish_reason = choice.get("finish_reason") or self.finish_reason
                yield piece
