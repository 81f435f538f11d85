"""Our tags as a reasoning parser of vLLM's: what is between ``<think>`` and ``</think>`` becomes ``reasoning``."""

from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.reasoning import ReasoningParser, ReasoningParserManager

from residency.platform.serving.reasoning_splitter import ReasoningSplitter, split_completion

TAGGED = "residency"


class TaggedReasoning(ReasoningParser):
    """By text, not by token: to most tokenizers our tags are several tokens. One parser reads one stream."""

    engine_based_streaming = True  # vLLM then hands over each piece alone and asks for what was held back

    def __init__(self, tokenizer: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(tokenizer, *args, **kwargs)
        self._splitter = ReasoningSplitter()

    def is_reasoning_end(self, input_ids: Sequence[int]) -> bool:
        return False  # never for good: the splitter sees every piece

    def is_reasoning_end_streaming(self, input_ids: Sequence[int], delta_ids: Iterable[int]) -> bool:
        return False

    def extract_content_ids(self, input_ids: list[int]) -> list[int]:
        return input_ids

    def extract_reasoning(self, model_output: str, request: Any) -> tuple[str | None, str | None]:
        """(reasoning, answer) of a whole completion; None for what is not there."""
        reasoning, answer = split_completion(model_output)
        return reasoning or None, answer or None

    def extract_reasoning_streaming(
        self,
        previous_text: str,
        current_text: str,
        delta_text: str,
        previous_token_ids: Sequence[int],
        current_token_ids: Sequence[int],
        delta_token_ids: Sequence[int],
    ) -> DeltaMessage | None:
        return _delta(self._splitter.feed(delta_text))

    def finish_streaming(self) -> DeltaMessage | None:
        """What was held back as a possible tag."""
        return _delta(self._splitter.finish())

    def count_reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """Tokens that the reasoning comes to when it is written alone."""
        reasoning, _ = split_completion(self.model_tokenizer.decode(list(token_ids), skip_special_tokens=True))
        return len(self.model_tokenizer.encode(reasoning, add_special_tokens=False)) if reasoning else 0


def _delta(pieces: tuple[str, str]) -> DeltaMessage | None:
    reasoning, answer = pieces
    if not reasoning and not answer:
        return None
    return DeltaMessage(reasoning=reasoning or None, content=answer or None)


ReasoningParserManager.register_module(TAGGED, module=TaggedReasoning)
