"""A completion's reasoning and answer taken apart while it streams: ``<think>…</think><answer>…</answer>``.

The text comes in pieces that may end inside a tag. What may still become a tag, and space that may be the last, is
held back until it is known; fed in any pieces, the two channels come to the same texts.
"""

from dataclasses import dataclass, field

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
LONGEST_TAG = max(map(len, TAGS))


@dataclass(slots=True)
class Channel:
    """One of the two texts. Space at its start is dropped, space at its end held back."""

    started: bool = False
    space: str = ""

    def feed(self, text: str) -> str:
        if not self.started:
            text = text.lstrip()
            if not text:
                return ""
            self.started = True
        whole = self.space + text
        solid = whole.rstrip()
        self.space = whole[len(solid) :]
        return solid


@dataclass(slots=True)
class ReasoningSplitter:
    """Feed pieces, get (reasoning, answer) of each; ``finish`` gives what was held back.

    Text before, between and after the tags belongs to the answer, so a completion without tags is all answer; one
    that breaks off while thinking has none.
    """

    thinking: bool = False
    held: str = ""
    reasoning: Channel = field(default_factory=Channel)
    answer: Channel = field(default_factory=Channel)

    def feed(self, piece: str) -> tuple[str, str]:
        text, out = self.held + piece, {True: "", False: ""}
        self.held = ""
        while text:
            place, tag = min(((text.find(tag), tag) for tag in TAGS if tag in text), default=(-1, ""))
            if place < 0:
                kept = _tag_beginning(text)
                self.held = text[len(text) - kept :]
                out[self.thinking] += self._channel().feed(text[: len(text) - kept])
                break
            out[self.thinking] += self._channel().feed(text[:place])
            self.thinking = tag == "<think>"
            text = text[place + len(tag) :]
        return out[True], out[False]

    def finish(self) -> tuple[str, str]:
        """The rest: a beginning of a tag that never became one."""
        rest, self.held = self.held, ""
        text = self._channel().feed(rest)
        return (text, "") if self.thinking else ("", text)

    def _channel(self) -> Channel:
        return self.reasoning if self.thinking else self.answer


def split_completion(text: str) -> tuple[str, str]:
    """(reasoning, answer) of a whole completion, exactly as its stream would have given them."""
    splitter = ReasoningSplitter()
    first, last = splitter.feed(text), splitter.finish()
    return first[0] + last[0], first[1] + last[1]


def _tag_beginning(text: str) -> int:
    """Length of the longest end of ``text`` that a tag begins with (0 to 8)."""
    for length in range(min(len(text), LONGEST_TAG - 1), 0, -1):
        if any(tag.startswith(text[-length:]) for tag in TAGS):
            return length
    return 0
