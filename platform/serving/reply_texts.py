"""The texts of a reply, for those who agreed that it is kept: of a whole body, or gathered while it streams by."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

PREFIX = b"data: {"


@dataclass(slots=True)
class ReplyTexts:
    """Id, reasoning and answer of the first choice."""

    id: str = ""
    reasoning: str = ""
    answer: str = ""

    def read(self, body: bytes) -> None:
        """Of a chat completion."""
        document = json.loads(body)
        message = document["choices"][0]["message"]
        self.id = document["id"]
        self.reasoning, self.answer = message.get("reasoning") or "", message.get("content") or ""

    async def gather(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The pieces unchanged, read on their way."""
        async for piece in pieces:
            if piece.startswith(PREFIX):
                document = json.loads(piece[len(PREFIX) - 1 :])
                self.id = document.get("id", self.id)
                for choice in document.get("choices", ())[:1]:
                    self.reasoning += choice["delta"].get("reasoning") or ""
                    self.answer += choice["delta"].get("content") or ""
            yield piece
