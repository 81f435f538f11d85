"""How a prompt and its images become a user's message, and what a trace says of the weights."""

from types import SimpleNamespace

import pytest

from residency.actors.engine_requests import Request, message_parts, spans_of, spans_text, trace_id, versions_by_token
from residency.platform.records import PolicyVersion
from residency.platform.sampling import SamplingConfig

IMAGE = {"type": "image"}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("prompt", "num_images", "parts"),
    [
        ("how many?", 0, [text("how many?")]),
        ("how many?", 2, [IMAGE, IMAGE, text("how many?")]),
        ("<image_1>: <image>\n<image_2>: <image>\nwhich?", 2,
         [text("<image_1>: "), IMAGE, text("\n<image_2>: "), IMAGE, text("\nwhich?")]),
        ("<image>\nwhich?", 1, [IMAGE, text("\nwhich?")]),
        ("<image>\nwhich?", 0, [text("\nwhich?")]),  # asked without its image
        ("<image>\nwhich?", 2, [IMAGE, IMAGE, text("\nwhich?")]),
    ],
)  # fmt: skip
def test_images_stand_where_the_prompt_marks_them(prompt: str, num_images: int, parts: list[dict[str, str]]) -> None:
    assert message_parts(prompt, num_images) == parts


OLD, NEW = PolicyVersion(incarnation=0, step=3), PolicyVersion(incarnation=1, step=0)


def test_each_token_has_the_version_that_sampled_it() -> None:
    spans = spans_of(
        [SimpleNamespace(version=str(each.packed), start=start) for each, start in ((OLD, 0), (NEW, 2))], NEW
    )
    assert versions_by_token(spans, 5).tolist() == [OLD.packed] * 2 + [NEW.packed] * 3
    assert spans_text(spans) == "0.3,1.0@2"
    nothing = spans_of(None, NEW)
    assert versions_by_token(nothing, 0).tolist() == []
    assert spans_text(nothing) == "1.0"


def test_traces_of_other_weights_have_other_ids() -> None:
    request = Request(item_id="a", prompt="p", media=(), prompt_mode="think", num_samples=1, seed=0)
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=8)
    mixtures = ([(0, 3)], [(0, 4)], [(0, 3), (1, 4)], [(0, 3), (2, 4)], [(0, 3), (10, 4)])
    assert len({trace_id(request, sampling, "rl", spans, 0) for spans in mixtures}) == len(mixtures)
