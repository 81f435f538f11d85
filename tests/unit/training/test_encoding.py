from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from residency.platform.arrow_tables import to_table
from residency.platform.errors import DataError
from residency.platform.records import Example, Family, PolicyVersion, PromptMode, Target, Trace
from residency.training.encoding import encode_examples
from residency.training.rollout_encoding import encode_rollouts
from residency.training.training_batch import BATCH_SCHEMA, BatchReader

QUESTION = "which side is the lesion on?\nChoose from: left, right."
WRONG, RIGHT = "<think>there are 3 cells on the left", " and 4 on the right.</think><answer>right</answer>"


def example(hashes: tuple[str, ...], answer: str = WRONG + RIGHT, loss_start: int = 0) -> Example:
    return Example(
        id="e",
        item_id="i",
        messages=({"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}),
        media=hashes,
        target=Target.REFLECTIVE,
        family=Family.MEDICAL_MULTIMODAL,
        loss_start=loss_start,
    )


def test_prompts_are_those_of_the_processor(processor: Any, media: pa.Table, pictures: list[Image.Image]) -> None:
    hashes = media.column("hash").to_pylist()
    images = [(hashes[0],), (), (hashes[2], hashes[1])]
    batch = encode_examples(to_table([example(names) for names in images], Example), processor, media)
    assert batch.schema == BATCH_SCHEMA
    reader = BatchReader(batch)
    for row, chosen in enumerate([[pictures[0]], [], [pictures[2], pictures[1]]]):
        chat = [{"role": "user", "content": [*[{"type": "image"}] * len(chosen), {"type": "text", "text": QUESTION}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        wanted = processor(text=[text], images=chosen or None)["input_ids"][0]
        got = reader.row(row)
        assert got.tokens[: got.prompt_length].tolist() == list(wanted)
        completion = processor.tokenizer.decode(got.tokens[got.prompt_length :])
        assert completion == WRONG + RIGHT + "<|im_end|>"
        assert got.media == images[row]


def test_loss_starts_after_the_wrong_part(processor: Any, media: pa.Table) -> None:
    table = to_table([example((), loss_start=len(WRONG)), example(())], Example)
    reader = BatchReader(encode_examples(table, processor, media))
    row = reader.row(0)
    completion = row.tokens[row.prompt_length :]
    taught = [int(token) for token, weight in zip(completion, row.weights, strict=True) if weight]
    assert processor.tokenizer.decode(taught) == RIGHT + "<|im_end|>"
    for row in (reader.row(0), reader.row(1)):  # each example weighs the same, its taught tokens equally
        assert row.weights.sum() == pytest.approx(1.0)
        assert len(set(row.weights[row.weights > 0].tolist())) == 1
    assert reader.total_weight([0, 1]) == pytest.approx(2.0)


def test_mistakes_in_examples_are_named(processor: Any, media: pa.Table) -> None:
    with pytest.raises(DataError, match="image 000000000000"):
        encode_examples(to_table([example(("0" * 64,))], Example), processor, media)
    chat = ({"role": "user", "content": "<|image_pad|>?"}, {"role": "assistant", "content": "a"})
    table = to_table([replace(example(()), messages=chat)], Example)
    with pytest.raises(DataError, match="placeholders"):
        encode_examples(table, processor, media)


def trace(name: str, **changes: Any) -> Trace:
    fields: dict[str, Any] = {
        "id": name, "item_id": "i", "role": "policy", "model": "sft", "prompt_mode": PromptMode.THINK, "seed": 0,
        "prompt_hash": "h", "sample_index": 0, "text": "", "finish_reason": "stop", "prompt_token_ids": (5, 6, 7),
        "token_ids": (8, 9), "logprobs": (-0.5, -0.25),
    }  # fmt: skip
    return Trace(**{**fields, **changes})


def test_rollouts_keep_the_engines_tokens_and_leave_out_who_has_no_advantage() -> None:
    versions = tuple(PolicyVersion(incarnation=2, step=step).packed for step in (4, 3))
    mixed = trace("c", item_id="j", token_ids=(9, 8), logprobs=(-1.0, -2.0), policy_versions=versions)
    traces = to_table([trace("a"), trace("b"), mixed], Trace)
    batch = encode_rollouts(traces, {"a": 1.5, "c": -1.5}, {"i": ["x"], "j": []})
    assert batch.to_pylist() == [
        {"id": "a", "token_ids": [5, 6, 7, 8, 9], "prompt_length": 3, "loss_weights": [1.0, 1.0], "advantage": 1.5,
         "sampler_logprobs": [-0.5, -0.25], "sampled_step": -1, "media": ["x"]},
        {"id": "c", "token_ids": [5, 6, 7, 9, 8], "prompt_length": 3, "loss_weights": [1.0, 1.0], "advantage": -1.5,
         "sampler_logprobs": [-1.0, -2.0], "sampled_step": 3, "media": []},
    ]  # fmt: skip
    with pytest.raises(DataError, match="2 tokens, 1 logprobs"):
        encode_rollouts(to_table([trace("a", logprobs=(-1.0,))], Trace), {"a": 1.0}, {"i": []})


def test_a_batch_whose_lengths_do_not_fit_is_refused() -> None:
    batch = encode_rollouts(to_table([trace("a")], Trace), {"a": 1.0}, {"i": []})
    column = BATCH_SCHEMA.get_field_index("loss_weights")
    broken = batch.set_column(column, BATCH_SCHEMA.field(column), pa.array([[1.0]], pa.list_(pa.float32())))
    with pytest.raises(DataError, match="batch row 'a'"):
        BatchReader(broken)


@pytest.mark.parametrize(
    ("template", "as_parts"),
    [
        ("{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}", False),
        ("{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}", False),
        ("{% for m in messages %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}", True),
    ],
)
def test_a_template_for_strings_gets_a_string(processor: Any, template: str, as_parts: bool) -> None:
    import copy

    from residency.training.chat_content import message_content, takes_parts

    tokenizer = copy.copy(processor.tokenizer)
    tokenizer.chat_template = template
    assert takes_parts(tokenizer) is as_parts
    assert takes_parts(processor), "the student's template takes both; parts keep the pictures' places"
    parts = [{"type": "text", "text": "is a cell "}, {"type": "text", "text": "there?"}]
    assert message_content(parts, as_parts) == (parts if as_parts else "is a cell there?")
