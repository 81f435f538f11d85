"""The try-it page: static files beside the API. The page wants no key; every call that it makes does."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template

from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.serving_state import NOTICE
from residency.platform.serving.visit import Visit

PATH = "/try"
FOLDER = Path(__file__).with_name("page")
KINDS = {".css": b"text/css; charset=utf-8", ".js": b"text/javascript; charset=utf-8"}
# Nothing but the page's own files and this server's API; in no frame, so that no other site can lead the hand
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self';"
    b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GUARDS = [(b"content-security-policy", POLICY), (b"referrer-policy", b"no-referrer")]


def page_routes(config: DoorConfig) -> dict[tuple[str, str], Callable[[Visit], Awaitable[None]]]:
    """``/try`` and what it loads, read once. The page says what this server takes: feedback, and how large a body."""
    lead, _, rest = NOTICE.partition(". ")
    assert lead == "Not medical advice"
    page = Template((FOLDER / "index.html").read_text()).substitute(
        feedback="on" if config.feedback_folder else "off", body_mib=config.body_mib, notice_rest=rest
    )
    routes = {("GET", PATH): _handler(page.encode(), b"text/html; charset=utf-8")}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in KINDS:
            routes["GET", f"{PATH}/{path.name}"] = _handler(path.read_bytes(), KINDS[path.suffix])
    return routes


def _handler(body: bytes, kind: bytes) -> Callable[[Visit], Awaitable[None]]:
    async def handle(visit: Visit) -> None:
        await visit.respond(200, body, kind, GUARDS)

    return handle
