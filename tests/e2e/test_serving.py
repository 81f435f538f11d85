"""A served model from outside: one real Ray Serve replica with a real vLLM engine, reached over HTTP."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from residency.platform.ask import ask, data_url
from residency.platform.errors import BadInputError, ModelError, RoleError
from residency.platform.profiles import Profile, RoleConfig

PROFILE = Profile(name="test", server=RoleConfig(cpus=0.5, threads=2), deadline_seconds=120)
KEY = "res-test-key"
MODEL = "resident"
QUESTION = "which side is the lesion on?\nChoose from: left, right.\nGive only the answer."


def png(seed: int, size: int = 84) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(ray_cluster: Any, tiny_student_dir: Path) -> Iterator[str]:
    """The URL of a running server; what must be refused before anything starts is checked on the way."""
    from residency.actors.serving import start_serving

    with pytest.raises(ModelError, match="does not exist"):
        start_serving(tiny_student_dir / "absent", MODEL, PROFILE, KEY)
    with pytest.raises(BadInputError, match="empty API key"):
        start_serving(tiny_student_dir, MODEL, PROFILE, " ")
    handle = start_serving(tiny_student_dir, MODEL, PROFILE, KEY, deadline_seconds=240)
    assert handle.url.startswith("http://127.0.0.1:")
    with pytest.raises(BadInputError, match="cannot be listened on"):
        start_serving(tiny_student_dir, MODEL, PROFILE, KEY, port=int(handle.url.split(":")[2].split("/")[0]))
    yield handle.url
    handle.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(handle.url + "/models", timeout=5)


def chat(url: str, body: dict[str, object], key: str | None = KEY, path: str = "/chat/completions") -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.post(url + path, json={"model": MODEL, "max_tokens": 4} | body, headers=headers, timeout=60)


def message(url: str) -> list[dict[str, object]]:
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}]


@pytest.mark.timeout(400)
def test_an_image_question_is_answered_and_repeatable(server: str) -> None:
    first = ask(server, KEY, MODEL, png(0), QUESTION, max_tokens=8)
    assert first == ask(server, KEY, MODEL, png(0), QUESTION, max_tokens=8)
    body = {"messages": message(data_url(png(0))), "max_tokens": 8, "temperature": 0}
    answer = chat(server, body).json()
    assert answer["choices"][0]["message"]["content"] == first
    # the picture alone is nine tokens
    assert answer["usage"]["prompt_tokens"] > 9
    assert 1 <= answer["usage"]["completion_tokens"] <= 8


def test_the_image_reaches_the_model(server: str) -> None:
    def logprobs(seed: int) -> list[float]:
        body = {"messages": message(data_url(png(seed))), "logprobs": True, "top_logprobs": 5, "temperature": 0}
        answer = chat(server, body).json()
        return [entry["logprob"] for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]

    one, other = logprobs(0), logprobs(1)
    assert one == logprobs(0)
    assert one != other


def test_without_the_key_nothing_is_said(server: str) -> None:
    for key in (None, "wrong", f"{KEY}x"):
        refused = chat(server, {"messages": message(data_url(png(0)))}, key=key)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
    assert httpx.get(server.removesuffix("/v1") + "/metrics", timeout=10).status_code == 401
    with pytest.raises(RoleError, match="answered 401"):
        ask(server, "wrong", MODEL, png(0), QUESTION)


def test_operating_paths_are_closed(server: str) -> None:
    assert chat(server, {}, path="/load_lora_adapter").status_code == 404
    root = server.removesuffix("/v1")
    assert httpx.post(root + "/tokenize", headers={"Authorization": f"Bearer {KEY}"}, timeout=10).status_code == 404
    assert httpx.get(root + "/health", timeout=10).status_code == 200
    models = httpx.get(server + "/models", headers={"Authorization": f"Bearer {KEY}"}, timeout=10).json()
    assert [model["id"] for model in models["data"]] == [MODEL]


def test_media_tokens_are_never_sampled(server: str, tiny_student_dir: Path) -> None:
    """A bias that would force the image token everywhere is asked for, and the engine's ban still stands."""
    from residency.training.model_folder import media_token_ids

    ids = media_token_ids(tiny_student_dir)
    assert ids
    body = {
        "messages": message(data_url(png(0))),
        "logit_bias": {str(token): 100 for token in ids},
        "max_tokens": 32,
        "temperature": 1.0,
        "skip_special_tokens": False,
        "ignore_eos": True,
    }
    answer = chat(server, body)
    assert answer.status_code == 200, answer.text
    text = answer.json()["choices"][0]["message"]["content"]
    assert text
    assert not any(token in text for token in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"))


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://127.0.0.1:9/picture.png", 400),
        ("file:///etc/passwd", 500),  # vLLM's own refusal of local files, which it does not count as the caller's fault
        (f"data:image/png;base64,{base64.b64encode(b'no picture').decode()}", 400),
    ],
)
def test_images_are_not_fetched_and_bad_ones_are_refused(server: str, url: str, status: int) -> None:
    refused = chat(server, {"messages": message(url)})
    assert refused.status_code == status, refused.text
    assert "root:" not in refused.text


def test_an_unknown_model_is_refused(server: str) -> None:
    refused = chat(server, {"model": "other", "messages": message(data_url(png(0)))})
    assert refused.status_code == 404
    assert "other" in refused.json()["error"]["message"]
