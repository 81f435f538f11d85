"""A headless Chromium driven over its debugging protocol: keys, files, sizes, screenshots, and what it complains of.

``async with open_page(program, folder, url) as page`` gives one tab; everything that waits has a deadline.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

SECONDS = 30.0
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
]  # fmt: skip
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "ArrowRight": (39, ""), "ArrowDown": (40, "")}
SHIFT, CONTROL = 8, 2


class Page:
    """One tab. ``loaded`` are the addresses that it asked for, ``complaints`` what its console and its policy said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.loaded: list[str] = []
        self.complaints: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            document = json.loads(message.data)
            future = self._waiting.pop(document.get("id", 0), None)
            if future is not None:
                future.set_result(document)
            elif document.get("method") == "Network.requestWillBeSent":
                self.loaded.append(document["params"]["request"]["url"])
            elif document.get("method") == "Log.entryAdded":
                if document["params"]["entry"]["source"] != "network":  # a refusal is no fault of the page
                    self.complaints.append(document["params"]["entry"]["text"])
            elif document.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(document["params"]["exceptionDetails"]["exception"]["description"])

    async def call(self, method: str, **params: Any) -> Any:
        """One command of the protocol; its result."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(future, SECONDS)
        assert "error" not in answer, answer
        return answer["result"]

    async def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def wait(self, expression: str, seconds: float = SECONDS) -> Any:
        """The first true value of an expression."""
        deadline = time.monotonic() + seconds
        while not (value := await self.js(expression)):
            if time.monotonic() > deadline:
                text = await self.js("document.body.innerText")
                raise AssertionError(f"{expression} did not become true; the page says:\n{text}\n{self.complaints}")
            await asyncio.sleep(0.05)
        return value

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.wait(f"document.readyState === 'complete' && location.href === {url!r}")

    async def press(self, key: str, modifiers: int = 0) -> None:
        """A key of ``KEYS``, down and up."""
        number, text = KEYS[key]
        down: dict[str, Any] = {"type": "keyDown" if text else "rawKeyDown", "modifiers": modifiers}
        if text:
            down["text"] = text
        code = "Space" if key == " " else key
        for event in (down, {"type": "keyUp", "modifiers": modifiers}):
            await self.call("Input.dispatchKeyEvent", key=key, code=code, windowsVirtualKeyCode=number, **event)

    async def write(self, text: str) -> None:
        """Text into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def tab_to(self, selector: str, most: int = 40) -> None:
        """Tab forward until the element has the focus; fails where it cannot be reached, or shows no focus."""
        for _ in range(most):
            await self.press("Tab")
            if await self.js(f"document.activeElement?.matches({selector!r})"):
                assert await self.js("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        raise AssertionError(f"{selector} cannot be reached with the tabulator")

    async def choose_file(self, selector: str, path: Path) -> None:
        """What a file dialog would do."""
        root = await self.call("DOM.getDocument")
        node = await self.call("DOM.querySelector", nodeId=root["root"]["nodeId"], selector=selector)
        await self.call("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def size(self, width: int, height: int) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )

    async def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def close(self) -> None:
        self._reader.cancel()
        await self._socket.close()


@asynccontextmanager
async def open_page(program: str, folder: Path, url: str, width: int = 1200) -> AsyncIterator[Page]:
    """A browser of its own with one tab at the address; ended by its process id."""
    process = await asyncio.create_subprocess_exec(
        program, *QUIET, f"--user-data-dir={folder}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port_file, deadline = folder / "DevToolsActivePort", time.monotonic() + SECONDS
        while not port_file.is_file() or not port_file.read_text().strip():
            assert time.monotonic() < deadline, "the browser did not start"
            await asyncio.sleep(0.05)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
            socket = await session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0)
            page = Page(socket)
            for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
                await page.call(f"{domain}.enable")
            await page.size(width, 900)
            await page.go(url)
            yield page
            await page.close()
    finally:
        process.kill()
        await process.wait()
