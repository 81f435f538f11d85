"""Images on their way in: what is taken, what is refused, and that nothing is fetched from where it may not be."""

import asyncio
import io
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.images import resolve_images
from residency.platform.serving.refusals import Refusal
from residency.platform.serving.remote_images import PublicResolver, check_address, fetch_image
from residency.platform.serving.uploads import Uploads

DATA = "data:image/png;base64,AA"


def png(colour: int = 0, note: str = "", size: tuple[int, int] = (8, 8), mode: str = "L") -> bytes:
    buffer, info = io.BytesIO(), PngInfo()
    info.add_text("Patient", note)
    Image.new(mode, size, colour).save(buffer, format="PNG", pnginfo=info if note else None)
    return buffer.getvalue()


def resolve(parts: Any, uploads: Uploads | None = None, **settings: Any) -> Any:
    async def no_fetch(url: str) -> bytes:
        return f"fetched {url}".encode()

    config = DoorConfig.model_validate({"key_digest": "0" * 64, **settings})
    return asyncio.run(resolve_images([{"role": "user", "content": parts}], config, uploads, no_fetch))[0]["content"]


def image(url: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}, **more}


def test_a_data_url_passes_and_nothing_else_of_the_part(tmp_path: Path) -> None:
    assert resolve([image(DATA, uuid="somebody-elses"), {"type": "text", "text": "x", "more": 1}]) == [
        image(DATA),
        {"type": "text", "text": "x"},
    ]
    assert resolve("text") == "text"


def test_an_upload_is_kept_without_its_metadata_and_found_by_its_hash(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 2**20)
    stored = uploads.put(png(7, note="Miller, John"))
    assert stored["id"] == uploads.put(png(7))["id"]  # the picture alone
    (file,) = tmp_path.glob("*/*/*.png")
    assert b"Miller" not in file.read_bytes()
    (part,) = resolve([image(stored["id"])], uploads)
    assert part["image_url"]["url"].startswith("data:image/png;base64,iVBOR")


@pytest.mark.parametrize(
    "data", [b"", b"no picture", png()[:40], png(size=(30_000, 30_000), mode="1")], ids=["empty", "text", "cut", "bomb"]
)
def test_what_is_no_image_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        Uploads(tmp_path, 2**20).put(data)
    assert (refused.value.status, refused.value.code) == (400, "invalid_image")


def test_the_oldest_uploads_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residency.platform.serving.uploads.SWEEP_SECONDS", 0.0)
    size = len(png(1)) + 10
    uploads = Uploads(tmp_path, 3 * size)
    ids = [str(uploads.put(png(colour))["id"]).removeprefix("sha256:") for colour in range(1, 7)]
    assert len(list(tmp_path.glob("*/*/*.png"))) <= 3
    uploads.read(ids[-1])
    with pytest.raises(Refusal, match="upload it again"):
        uploads.read(ids[0])


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([image("http://127.0.0.1/x.png")], "image_not_allowed"),
        ([image("https://example.org/x.png")], "image_not_allowed"),
        ([image("file:///etc/passwd")], "image_not_allowed"),
        ([image("data:text/html;base64,AA")], "image_not_allowed"),
        ([image("sha256:../../etc/passwd")], "image_not_allowed"),
        ([image(f"sha256:{'0' * 64}")], "media_not_found"),
        ([image(None)], "invalid_value"),
        ([image(DATA)] * 5, "too_many"),
        ([{"type": "video_url", "video_url": {"url": DATA}}], "invalid_value"),
        ([{"type": "image_embeds", "image_embeds": "AA"}], "invalid_value"),
        (["text"], "invalid_value"),
        ([{"type": "text", "text": 1}], "invalid_value"),
        (7, "invalid_value"),
    ],
)
def test_other_parts_are_refused(tmp_path: Path, parts: Any, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        resolve(parts, Uploads(tmp_path, 2**20))
    assert (refused.value.status, refused.value.code) == (400, code)


def test_an_allowed_host_is_fetched_from() -> None:
    (part,) = resolve([image("https://images.example.org/x.png")], remote_images=["images.example.org"])
    assert part["image_url"]["url"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "::1", "fe80::1", "fc00::1",
     "::ffff:127.0.0.1", "100.64.0.1"],
)  # fmt: skip
def test_an_address_that_is_not_public_is_not_connected_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="no public address"):
        check_address(address)
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(Refusal, match="image_not_allowed"):
        asyncio.run(fetch_image(f"https://{literal}/x.png", [address], 100))

    async def named() -> None:  # a name that leads there
        async def found(*_: Any, **__: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        with pytest.raises(OSError, match="no public address"):
            await PublicResolver().resolve("images.example.org", 443)
        with pytest.raises(Refusal, match="cannot be reached"):
            await fetch_image("https://images.example.org/x.png", ["images.example.org"], 100)

    asyncio.run(named())


@pytest.mark.parametrize(
    "url",
    ["http://images.example.org/x", "https://other.example.org/x", "https://images.example.org:8443/x",
     "https://me@images.example.org/x", "https://images.example.org.evil.example/x", "https://[", "https://"],
)  # fmt: skip
def test_only_https_to_the_host_itself_is_fetched(url: str) -> None:
    with pytest.raises(Refusal, match="image_not_allowed"):
        asyncio.run(fetch_image(url, ["images.example.org"], 100))
