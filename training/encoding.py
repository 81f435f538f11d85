"""From SFT examples to training batches. What an engine has sampled is encoded by ``rollout_encoding``."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from residency.platform.arrow_tables import from_table
from residency.platform.errors import DataError
from residency.platform.records import Example
from residency.training.chat_content import message_content, takes_parts
from residency.training.checkpoints import tokenizer_of
from residency.training.image_features import ImageFeatures
from residency.training.pixel_cache import PixelCache
from residency.training.student_tokenizer import TURN_END
from residency.training.training_batch import make_batch


def prompt_messages(
    messages: Sequence[Mapping[str, str]], num_images: int, as_parts: bool = True
) -> list[dict[str, Any]]:
    """A chat for the processor: the images stand before the text of the first user message."""
    chat: list[dict[str, Any]] = []
    images_left = num_images
    for message in messages:
        parts: list[dict[str, str]] = []
        if message["role"] == "user":
            parts = [{"type": "image"}] * images_left
            images_left = 0
        parts = [*parts, {"type": "text", "text": message["content"]}]
        chat.append({"role": message["role"], "content": message_content(parts, as_parts)})
    if images_left:
        raise DataError(f"{num_images} images in a chat without a user message", "a user message to hold them")
    return chat


def expand_images(text: str, processor: Any, images: Sequence[ImageFeatures]) -> str:
    """Replace each image placeholder by what the processor says stands for the image."""
    if not images and not hasattr(processor, "image_token"):
        return text  # a text-only model's processor is its tokenizer
    token: str = processor.image_token
    pieces = text.split(token)
    if len(pieces) - 1 != len(images):
        raise DataError(
            f"{len(pieces) - 1} image placeholders in the prompt for {len(images)} images",
            "one each",
            f"take {token} out of the question's text",
        )
    return pieces[0] + "".join(image.text + piece for image, piece in zip(images, pieces[1:], strict=True))


def completion_weights(offsets: Sequence[Sequence[int]], loss_start: int) -> list[float]:
    """Equal weights that sum to 1 for the tokens that reach past ``loss_start`` (characters), 0 for those before.

    The turn's end always counts. Each example weighs the same: by tokens, a direct answer of two tokens would hardly
    be heard beside rationales of thirty.
    """
    counted = [end > loss_start for _, end in offsets] + [True]
    return [counts / sum(counted) for counts in counted]


def encode_examples(examples: pa.Table, processor: Any, media: pa.Table) -> pa.Table:
    """SFT examples (an Example table) → a training batch, row by row in the same order.

    The prompt goes through the processor's chat template with its own image expansion. The completion is the last
    message and the end of the turn. Raises DataError for a chat that does not end with the assistant's message.
    """
    records = from_table(examples, Example)
    cache = PixelCache(processor, media)
    tokenizer, as_parts = tokenizer_of(processor), takes_parts(processor)
    turn_end = tokenizer.convert_tokens_to_ids(TURN_END)
    if turn_end in (None, tokenizer.unk_token_id):  # a model with other turns than Qwen's ends them by its own token
        turn_end = tokenizer.eos_token_id
    prompts: list[str] = []
    for record in records:
        if not record.messages or record.messages[-1]["role"] != "assistant":
            raise DataError(f"example {record.id} does not end with an assistant's message", "one to learn from")
        chat = prompt_messages(record.messages[:-1], len(record.media), as_parts)
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        prompts.append(expand_images(text, processor, cache.get(record.media)))
    answers = [record.messages[-1]["content"] for record in records]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"] if records else []
    encoded = tokenizer(answers, add_special_tokens=False, return_offsets_mapping=True) if records else {}
    answer_ids, offsets = encoded.get("input_ids", []), encoded.get("offset_mapping", [])
    return make_batch(
        {
            "id": [record.id for record in records],
            "token_ids": [[*prompt, *answer, turn_end] for prompt, answer in zip(prompt_ids, answer_ids, strict=True)],
            "prompt_length": [len(prompt) for prompt in prompt_ids],
            "loss_weights": [
                completion_weights(spans, record.loss_start) for spans, record in zip(offsets, records, strict=True)
            ],
            "advantage": [0.0] * len(records),
            "sampler_logprobs": [[]] * len(records),
            "media": [list(record.media) for record in records],
        }
    )
