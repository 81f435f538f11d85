"""The try-it page in a real browser, against the served model: by keyboard, at a phone's width and a desk's."""

import asyncio
import base64
import importlib.util
import io
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from residency.platform.prompts import DIRECT_INSTRUCTION, THINK_INSTRUCTION
from residency.platform.serving.clinical_answer import STRUCTURED_INSTRUCTION
from residency.platform.serving.serving_state import ServingState, Version
from residency.training.student_tokenizer import TURN_END

QUESTION = "which side is the lesion on?"
FORM = {
    "findings": ["round", "bright"],
    "reasoning_steps": ["the lesion is on the left"],
    "differential": ["right"],
    "answer": "left",
    "confidence": 0.875,
}
STATES = "[...document.querySelectorAll('.pane > .state')].map(line => line.textContent)"
ANSWERED = f"{STATES}.length && {STATES}.every(text => text.startsWith('Answered in'))"
NARROW, WIDE = 360, 1200
STEPS = 34


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def teach(source: Path, out: Path, pairs: list[tuple[str, str]]) -> None:
    """The folder with weights that answer so; all else stays, so that they go into the engine in place."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(source)
    model: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    chats = []
    for asked, answer in pairs:
        turn = [{"role": "user", "content": [{"type": "text", "text": asked}]}]
        prompt = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        said = processor.tokenizer(answer + TURN_END, add_special_tokens=False, return_tensors="pt")["input_ids"]
        chats.append((processor.tokenizer(prompt, return_tensors="pt")["input_ids"], said))
    worst = float("inf")
    for _ in range(STEPS):
        worst = 0.0
        for prompt, said in chats:
            ids = torch.cat([prompt, said], 1)
            labels = torch.cat([torch.full_like(prompt, -100), said], 1)
            loss = model(input_ids=ids, labels=labels, mm_token_type_ids=torch.zeros_like(ids)).loss
            loss.backward()
            worst = max(worst, loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert worst < 0.05, f"not learnt: loss {worst:.3f}"
    model.save_pretrained(out.with_name("saved"))
    shutil.copytree(source, out)
    shutil.copyfile(out.with_name("saved") / "model.safetensors", out / "model.safetensors")


@pytest.fixture(scope="module")
def talking(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The served model with weights that say something in each mode; what was on call is put back."""
    pairs = [
        (f"{QUESTION}\n{THINK_INSTRUCTION}", "<think>the lesion is on the left.</think><answer>left</answer>"),
        (f"{QUESTION}\n{DIRECT_INSTRUCTION}", "left"),
        (f"{QUESTION}\n{STRUCTURED_INSTRUCTION}", json.dumps(FORM, separators=(",", ":"))),
    ]
    folder = tmp_path_factory.mktemp("talking") / "v3"
    teach(served.folders["v1"], folder, pairs)
    version = Version(path=str(folder), checkpoint="talking")
    served.handle.apply([ServingState(model=served.model, versions={"v3": version}, stable="v3")])
    yield served
    served.handle.apply([served.state])


@asynccontextmanager
async def visit(served: Any, folder: Path, width: int) -> AsyncIterator[Any]:
    """The page, open; nothing but this server was asked for anything, and nothing was complained of."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    root = served.url.removesuffix("v1")
    driver = load(Path(__file__).parents[1] / "chromium.py")
    async with driver.open_page(program, folder / "browser", f"{root}try", width) as page:
        yield page
        elsewhere = [url for url in page.loaded if not url.startswith((root, "data:", f"blob:{root}"))]
        assert elsewhere == []
        assert page.complaints == []


async def text(page: Any, selector: str) -> str:
    return await page.js(f"document.querySelector({selector!r}).innerText")


async def sticks_out(page: Any) -> int:
    return await page.js("document.documentElement.scrollWidth - document.documentElement.clientWidth")


async def choose_mode(page: Any, mode: str) -> None:
    """With the arrow keys; the radio that is chosen has the focus when one comes to the group."""
    await page.tab_to("[name=mode]")
    for _ in range(3):
        if await page.js(f"document.activeElement.value === {mode!r}"):
            return
        await page.press("ArrowRight")
    raise AssertionError(f"no mode {mode}")


@pytest.mark.timeout(300)
def test_all_is_done_by_keyboard_at_the_width_of_a_phone(talking: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with visit(talking, tmp_path, NARROW) as page:
            assert "Not medical advice" in await text(page, "header")
            await page.tab_to("#key")
            await page.write("wrong")
            await page.press("Enter")
            await page.wait("document.querySelector('#door-state.bad')?.textContent.includes('API key')")
            await page.js("document.querySelector('#key').select()")
            await page.write(talking.key)
            await page.press("Enter")
            await page.wait("document.querySelector('#door-state').textContent === 'Connected.'")
            assert await page.js("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]

            await page.tab_to("#question")
            await page.write(QUESTION)
            await page.tab_to("#consent")
            await page.press(" ")
            await page.press("Tab")
            assert await page.js("document.activeElement.id") == "send"
            await page.press("Enter")
            await page.wait(ANSWERED)
            assert await text(page, ".reasoning .text") == "the lesion is on the left."
            assert await text(page, ".answer .text") == "left"
            assert "version v3" in await text(page, ".pane h2")
            assert "Checkpoint talking. Not medical advice" in await text(page, ".pane .label")
            assert await page.js("document.querySelector('.answer .text').ariaLive") == "polite"
            assert await sticks_out(page) <= 0

            await page.tab_to(".rating [type=radio]")
            await page.press(" ")
            await page.press("ArrowRight")
            await page.tab_to(".rating textarea")
            await page.write("right")
            await page.tab_to(".rating button")
            await page.press("Enter")
            await page.wait("document.querySelector('.rating .state').textContent.includes('is kept')")

            await page.go(page.loaded[0])  # the tab knows its key again
            await page.wait("document.querySelector('#door-state').textContent === 'Connected.'")
            await page.js("document.querySelector('#key').focus()")
            await page.tab_to("#question")
            await page.write(QUESTION)
            await choose_mode(page, "structured")
            await page.tab_to("#send")
            await page.press(" ")
            await page.wait(ANSWERED)
            shown = await page.js(
                "[...document.querySelectorAll('.clinical li, .clinical output')].map(each => each.textContent)"
            )
            assert shown == ["left", "0.875", "round", "bright", "the lesion is on the left", "right"]
            assert await page.js("document.querySelector('.answer').hidden")  # no JSON is shown beside it
            assert await sticks_out(page) <= 0
            unnamed = await page.js(
                "[...document.querySelectorAll('input, select, textarea, button, img, meter')].filter(each =>"
                " !each.labels?.length && !each.ariaLabel && !each.alt && !each.innerText).map(each => each.outerHTML)"
            )
            assert unnamed == []

    asyncio.run(story())
    rows = [json.loads(line) for path in talking.data.glob("feedback/*/ratings-*") for line in path.open()]
    said = [(row["rating"], row.get("corrected_answer")) for row in rows if row.get("corrected_answer") == "right"]
    assert said == [("wrong", "right")]


@pytest.mark.timeout(300)
def test_a_picture_is_chosen_dropped_and_pasted_and_two_versions_answer(talking: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (84, 84, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    (tmp_path / "picture.png").write_bytes(buffer.getvalue())
    given = """
        (kind, target) => {
          const data = new DataTransfer(), bytes = Uint8Array.from(atob("BASE64"), each => each.charCodeAt(0));
          data.items.add(new File([bytes], kind + ".png", {type: "image/png"}));
          const event = kind === "drop" ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
            : new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true});
          target.dispatchEvent(event);
          return document.querySelector("#file-name").textContent;
        }""".replace("BASE64", base64.b64encode(buffer.getvalue()).decode())

    async def story() -> None:
        async with visit(talking, tmp_path, WIDE) as page:
            await page.js(f"document.querySelector('#key').value = {talking.key!r}")
            await page.js("document.querySelector('#door').requestSubmit()")
            await page.wait("document.querySelector('#door-state').textContent === 'Connected.'")
            await page.choose_file("#file", tmp_path / "picture.png")
            await page.wait("document.querySelector('#preview').naturalWidth === 84")
            assert await text(page, "#file-name") == "picture.png"
            assert await page.js(f"({given})('drop', document.querySelector('#drop'))") == "drop.png"
            assert await page.js(f"({given})('paste', document.querySelector('#question'))") == "paste.png"
            await page.wait("document.querySelector('#preview').naturalWidth === 84")

            await page.js("document.querySelector('#question').focus()")
            await page.write(QUESTION)
            await page.js("document.querySelector('[value=direct]').click()")
            await page.js("document.querySelector('#other').selectedIndex = 2")
            assert await page.js("document.querySelector('#other').value") == f"{talking.model}@v3"
            await page.js("document.querySelector('#question').focus()")
            await page.press("Enter", modifiers=2)  # with the control key
            await page.wait(ANSWERED)
            panes = await page.js("[...document.querySelectorAll('.pane')].map(pane => pane.getBoundingClientRect().x)")
            assert len(panes) == 2
            assert panes[0] < panes[1]  # beside each other
            answers = await page.js("[...document.querySelectorAll('.answer .text')].map(each => each.textContent)")
            assert len(answers) == 2
            assert answers[0] == answers[1]  # one version by two names
            assert await sticks_out(page) <= 0

            await page.js("document.querySelector('#remove').click()")
            assert await page.js("document.querySelector('#chosen').hidden")
            await page.js("document.querySelector('#forget').click()")
            assert await page.js("sessionStorage.length") == 0
            assert await page.js("document.querySelector('#ask-fields').disabled")

    asyncio.run(story())
    audit = [json.loads(line) for path in talking.data.glob("audit/*.jsonl") for line in path.open()]
    asked = [row for row in audit if row["mode"] == "direct" and row["version"] == "v3" and row["status"] == 200]
    assert len(asked) == 2
    assert asked[0]["prompt_tokens"] == asked[1]["prompt_tokens"]
