"""What is on call changes under load: weights in place, a canary beside, and back. One replica, real engines."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from residency.platform.errors import ModelError
from residency.platform.serving.serving_state import Canary, ServingState, Version

PLAIN = [{"role": "user", "content": "which side is the lesion on?"}]


def state_of(served: Any, stable: str, share: float | None = None) -> ServingState:
    versions = {name: Version(path=str(folder), checkpoint=name) for name, folder in served.folders.items()}
    other = next(name for name in versions if name != stable)
    canary = None if share is None else Canary(version=other, share=share)
    return ServingState(model=served.model, versions=versions, stable=stable, canary=canary)


def client(served: Any) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {served.key}"}
    return httpx.AsyncClient(base_url=served.url, headers=headers, timeout=90)


async def text_of(http: httpx.AsyncClient, model: str, session: str = "") -> tuple[str, str]:
    """(version, text) of a greedy answer; a failed request fails the test."""
    body = {"model": model, "messages": PLAIN, "max_tokens": 16, "temperature": 0, "ignore_eos": True}
    answer = await http.post("/chat/completions", json=body, headers={"X-Session-Id": session} if session else {})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert answer.headers["x-residency-version"] == document["residency"]["version"]
    return document["residency"]["version"], document["choices"][0]["message"]["content"]


@pytest.mark.timeout(400)
def test_weights_change_in_place_under_load_and_back(served: Any) -> None:
    """No request fails, and each answer is wholly by the version that it names: both answer a greedy prompt alike every
    time, and unlike each other."""
    seen: list[tuple[str, str]] = []

    async def load(http: httpx.AsyncClient, stop: asyncio.Event) -> None:
        while not stop.is_set():
            seen.append(await text_of(http, served.model))

    async def story() -> dict[str, float]:
        stop, seconds = asyncio.Event(), {}
        async with client(served) as http:
            workers = [asyncio.create_task(load(http, stop)) for _ in range(6)]
            for version in ("v2", "v1"):
                await asyncio.sleep(1.0)
                started = time.monotonic()
                await asyncio.to_thread(served.handle.apply, [state_of(served, version)])
                seconds[version] = time.monotonic() - started
                assert (await text_of(http, served.model))[0] == version
            await asyncio.sleep(1.0)
            stop.set()
            await asyncio.gather(*workers)
        return seconds

    seconds = asyncio.run(story())
    served.handle.apply([served.state])
    texts = {version: {text for each, text in seen if each == version} for version in ("v1", "v2")}
    assert [len(texts[version]) for version in ("v1", "v2")] == [1, 1], texts
    assert texts["v1"] != texts["v2"]
    print(f"changed in {seconds}, {len(seen)} requests")


def test_a_canary_answers_its_sessions_and_goes_at_once(served: Any) -> None:
    async def by_session(http: httpx.AsyncClient) -> dict[str, tuple[str, str]]:
        return {str(n): await text_of(http, served.model, str(n)) for n in range(12)}

    async def story() -> None:
        async with client(served) as http:
            alone = await text_of(http, served.model)
            await asyncio.to_thread(served.handle.apply, [state_of(served, "v1", share=0.5)])
            split = await by_session(http)
            assert {version for version, _ in split.values()} == {"v1", "v2"}
            assert split == await by_session(http)
            named = await text_of(http, f"{served.model}@v2")
            assert named in split.values()
            assert named[1] != alone[1]
            body = {"model": f"{served.model}@v2", "messages": PLAIN, "max_tokens": 4, "stream": True}
            streamed = await http.post("/chat/completions", json=body)
            assert streamed.text.startswith('data: {"residency":')
            assert streamed.headers["x-residency-version"] == "v2"
            await asyncio.to_thread(served.handle.apply, [served.state])
            assert {version for version, _ in (await by_session(http)).values()} == {"v1"}
            refused = await http.post("/chat/completions", json=body)
            assert refused.status_code == 404

    asyncio.run(story())


def test_a_folder_that_cannot_be_served_leaves_what_is_on_call(served: Any, tmp_path: Path) -> None:
    bad = Version(path=str(tmp_path / "absent"), checkpoint="absent")
    with pytest.raises(ModelError, match="does not exist"):
        served.handle.apply([ServingState(model=served.model, versions={"v3": bad}, stable="v3")])
    changed = Version(path=str(served.folders["v2"]), checkpoint="v2", digest="0" * 64)
    with pytest.raises(ModelError, match="as it was promoted"):
        served.handle.apply([ServingState(model=served.model, versions={"v2": changed}, stable="v2")])

    async def ask() -> tuple[str, str]:
        async with client(served) as http:
            return await text_of(http, served.model)

    assert asyncio.run(ask())[0] == "v1"


@pytest.mark.timeout(400)
def test_an_adapter_answers_on_top_of_its_model(served: Any, tmp_path: Path) -> None:
    """Another kind of engine: the replica starts it while requests wait, and goes back."""
    adapter = adapter_of(served.folders["v1"], tmp_path / "adapter")
    versions = {"v1a": Version(path=str(served.folders["v1"]), checkpoint="adapted", adapter=str(adapter))}

    async def ask() -> tuple[str, str]:
        async with client(served) as http:
            return await text_of(http, served.model)

    base = asyncio.run(ask())
    served.handle.apply([ServingState(model=served.model, versions=versions, stable="v1a")])
    adapted = asyncio.run(ask())
    served.handle.apply([served.state])
    assert adapted[0] == "v1a"
    assert adapted[1] != base[1]
    assert asyncio.run(ask()) == base


def adapter_of(model_dir: Path, out: Path) -> Path:
    """A LoRA adapter with random weights, as PEFT saves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageTextToText

    model = get_peft_model(
        AutoModelForImageTextToText.from_pretrained(model_dir, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=32, target_modules=r".*language_model.*\.(q_proj|v_proj)"),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    model.save_pretrained(str(out))
    return out
