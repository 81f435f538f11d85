"""A served model from outside: one real Ray Serve replica with a real vLLM engine, reached over HTTP."""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI
from PIL import Image

from residency.platform.ask import ask, data_url
from residency.platform.errors import BadInputError, ModelError, RoleError
from residency.platform.profiles import Profile
from residency.platform.serving.clinical_answer import is_clinical_answer

QUESTION = "which side is the lesion on?\nChoose from: left, right."
PLAIN = [{"role": "user", "content": QUESTION}]


def png(seed: int, size: int = 84) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def message(url: str) -> list[dict[str, object]]:
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}]


def post(served: Any, path: str, body: Any, key: str | None = "", **more: Any) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key or served.key}"}
    return httpx.post(served.url + path, json=body, headers=headers | more.pop("headers", {}), timeout=60, **more)


def chat(served: Any, key: str | None = "", **body: Any) -> httpx.Response:
    given = {"model": served.model, "max_tokens": 8, "temperature": 0, "messages": PLAIN} | body
    return post(served, "/chat/completions", given, key)


def events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


@pytest.mark.timeout(400)
def test_an_image_question_is_answered_and_repeatable(served: Any) -> None:
    first = ask(served.url, served.key, served.model, png(0), QUESTION, max_tokens=8)
    assert first == ask(served.url, served.key, served.model, png(0), QUESTION, max_tokens=8)
    answer = chat(served, messages=message(data_url(png(0)))).json()
    assert answer["choices"][0]["message"]["content"] == first
    # the picture alone is nine tokens
    assert answer["usage"]["prompt_tokens"] > 9
    assert 1 <= answer["usage"]["completion_tokens"] <= 8


def test_what_cannot_be_served_is_refused_before_anything_starts(served: Any, tmp_path: Path) -> None:
    from residency.actors.serving.starting import single_state, start_serving

    profile = Profile(name="test")
    with pytest.raises(ModelError, match="does not exist"):
        start_serving([single_state(tmp_path / "absent", "m")], profile, "key")
    with pytest.raises(BadInputError, match="empty API key"):
        start_serving([served.state], profile, " ")
    port = int(served.url.split(":")[2].split("/")[0])
    with pytest.raises(BadInputError, match="cannot be listened on"):
        start_serving([served.state], profile, "key", port=port)


def test_an_uploaded_image_answers_as_the_same_image_in_the_request(served: Any) -> None:
    def logprobs(url: str) -> list[float]:
        answer = chat(served, messages=message(url), logprobs=True, top_logprobs=5, max_tokens=1).json()
        return [entry["logprob"] for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]

    headers = {"Authorization": f"Bearer {served.key}", "Content-Type": "image/png"}
    stored = httpx.post(served.url + "/media", content=png(0), headers=headers, timeout=30).json()
    assert (stored["width"], stored["height"]) == (84, 84)
    one, other = logprobs(stored["id"]), logprobs(data_url(png(1)))
    assert one == logprobs(data_url(png(0)))
    assert one != other  # so the image reaches the model
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, format="PNG")
    assert len(bomb.getvalue()) < 2**20
    refused = httpx.post(served.url + "/media", content=bomb.getvalue(), headers=headers, timeout=30)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_image")
    assert chat(served, messages=message(data_url(bomb.getvalue()))).status_code == 400


def test_the_openai_client_streams_reasoning_and_answer_apart(served: Any) -> None:
    client = OpenAI(base_url=served.url, api_key=served.key)
    asked: dict[str, Any] = {"model": served.model, "messages": PLAIN, "max_tokens": 40, "temperature": 1, "seed": 3}
    extra = {"residency": {"mode": "think"}}
    whole: Any = client.chat.completions.create(**asked, extra_body=extra)
    said = whole.choices[0].message
    assert whole.residency == {
        "model": "resident",
        "checkpoint": "resident",
        "version": "v1",
        "notice": "Not medical advice. A qualified professional must check every answer.",
    }
    pieces: list[Any] = list(client.chat.completions.create(**asked, extra_body=extra, stream=True))
    assert pieces[0].residency["version"] == "v1"
    deltas = [piece.choices[0].delta for piece in pieces if piece.choices]
    assert "".join(delta.content or "" for delta in deltas) == (said.content or "")
    streamed = "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
    assert streamed == (getattr(said, "reasoning", None) or "")
    assert "<think>" not in (said.content or "") + streamed
    assert [model.id for model in client.models.list()] == ["resident", "resident@v1"]
    client.close()


def test_a_structured_answer_is_whole_or_an_error(served: Any) -> None:
    mode = {"mode": "structured"}
    vocabulary = json.loads((served.folders["v1"] / "tokenizer.json").read_text())["model"]["vocab"]
    short = {str(vocabulary['"']): 100}  # a random model's texts end where a quotation mark may stand
    whole = chat(served, residency=mode, max_tokens=600, logit_bias=short)
    assert whole.status_code == 200, whole.text
    assert is_clinical_answer(whole.json()["choices"][0]["message"]["content"])
    streamed = events(chat(served, residency=mode, max_tokens=600, logit_bias=short, stream=True).text)
    deltas = [event["choices"][0]["delta"].get("content") or "" for event in streamed if event.get("choices")]
    assert "".join(deltas) == whole.json()["choices"][0]["message"]["content"]
    cut = chat(served, residency=mode, max_tokens=12, temperature=1)
    assert (cut.status_code, cut.json()["error"]["code"]) == (422, "structured_answer_incomplete")
    broken = events(chat(served, residency=mode, max_tokens=12, temperature=1, stream=True).text)
    assert broken[-1]["error"]["code"] == "structured_answer_incomplete"


def test_curl_works_as_the_documentation_says(served: Any) -> None:
    body = json.dumps({"model": served.model, "messages": PLAIN, "max_tokens": 4, "stream": True})
    command = ["curl", "-sS", "-N", f"{served.url}/chat/completions", "-H", f"Authorization: Bearer {served.key}",
               "-H", "Content-Type: application/json", "-d", body]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    first, *rest = events(done.stdout)
    assert first["residency"]["version"] == "v1"
    assert rest[-1]["choices"][0]["finish_reason"] in ("length", "stop")


def test_without_the_key_nothing_is_said(served: Any) -> None:
    for key in (None, "wrong", f"{served.key}x"):
        refused = chat(served, key=key)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
    root = served.url.removesuffix("/v1")
    assert httpx.get(root + "/metrics", timeout=10).status_code == 401
    assert httpx.get(root + "/health", timeout=10).status_code == 200
    assert httpx.get(root + "/ready", timeout=10).status_code == 200
    with pytest.raises(RoleError, match="answered 401"):
        ask(served.url, "wrong", served.model, png(0), QUESTION)


def test_media_tokens_are_never_sampled(served: Any) -> None:
    """A bias that would force the image token everywhere is asked for, and the engine's ban still stands."""
    from residency.training.model_folder import media_token_ids

    ids = media_token_ids(served.folders["v1"])
    assert ids
    answer = chat(
        served,
        messages=message(data_url(png(0))),
        logit_bias={str(token): 100 for token in ids},
        max_tokens=32,
        temperature=1.0,
        skip_special_tokens=False,
        ignore_eos=True,
    )
    assert answer.status_code == 200, answer.text
    text = answer.json()["choices"][0]["message"]["content"]
    assert text
    assert not any(token in text for token in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"))


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"messages": message("http://127.0.0.1:9/picture.png")}, 400, "image_not_allowed"),
        ({"messages": message("file:///etc/passwd")}, 400, "image_not_allowed"),
        ({"messages": message(f"sha256:{'0' * 64}")}, 400, "media_not_found"),
        ({"messages": message(f"data:image/png;base64,{base64.b64encode(b'none').decode()}")}, 400, "invalid_value"),
        ({"messages": message("data:image/png;base64,***")}, 400, "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]}, 400, None),
        ({"messages": PLAIN * 400}, 400, "invalid_value"),  # longer than the model
        ({"temperature": -1}, 400, "invalid_value"),
        ({"max_tokens": "many"}, 400, "invalid_value"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 7}}}}, 400, None),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}},
            400,
            None,
        ),
        ({"model": "other"}, 404, "model_not_found"),
        ({"model": "resident@v9"}, 404, "model_not_found"),
        ({"messages": message("data:image/png;base64," + "A" * (5 * 2**20))}, 413, "too_large"),
    ],
)
def test_what_is_refused_is_refused_in_words(served: Any, body: dict[str, Any], status: int, code: str | None) -> None:
    refused = chat(served, **body)
    assert refused.status_code == status, refused.text
    assert refused.json()["error"]["code"] == code or code is None
    assert "root:" not in refused.text


def test_an_exchange_with_consent_becomes_an_item(served: Any, tmp_path: Path) -> None:
    from residency.platform.dataset_folder import read_dataset
    from residency.synthesis.importers import ROW_FORMATS
    from residency.synthesis.importing.item_builder import ImportSettings
    from residency.synthesis.importing.row_import import import_rows
    from residency.synthesis.importing.source_row import ReadOptions
    from residency.synthesis.importing.splits import SplitPlan

    kept = {"mode": "direct", "consent": True}
    first = chat(served, messages=message(data_url(png(5))), residency=kept).json()["id"]
    second = events(chat(served, messages=message(data_url(png(6))), residency=kept, stream=True).text)[0]["id"]
    unasked = chat(served, messages=message(data_url(png(7)))).json()["id"]
    corrected = {"rating": "wrong", "corrected_answer": "left", "consent": True}
    for request_id in (first, unasked):
        assert post(served, "/feedback", {"request_id": request_id} | corrected).status_code == 200
    named = corrected | {"request_id": second, "corrected_answer": "left, says Dr. John Miller"}
    assert post(served, "/feedback", named).status_code == 200
    assert post(served, "/feedback", {"request_id": first, "rating": "fine"}).status_code == 400

    settings = ImportSettings(name="ward", licence="own", plan=SplitPlan.parse("train", 0), family=None)
    copied = shutil.copytree(served.data / "feedback", tmp_path / "feedback")
    outcome = import_rows(ROW_FORMATS["feedback"], copied, tmp_path / "items", ReadOptions(), settings, lambda: None)
    (item,) = read_dataset(tmp_path / "items").items
    assert (item.question, item.answer) == (QUESTION, "left")
    assert len(item.media) == 1
    assert dict(outcome.refused) == {"it identifies somebody": 1}
