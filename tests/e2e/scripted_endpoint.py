"""An OpenAI-compatible endpoint that knows the answers of a dataset: ``scripted_endpoint.py DATASET [DOUBTFUL_ID …]``.

It looks an item up by its question and its images, and answers rightly, but doubtful items wrongly every second time;
asked for a rating it calls everything good. Of images that it does not know (blank ones) it knows no answer. The first
line of its output is its address; it serves until it is ended.
"""

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from residency.platform.dataset_folder import stream_items
from residency.platform.records import Item

RATING = '{"alignment": 2, "completeness": 2, "logic": 2, "reason": "sound"}'
URL_HEAD = "data:image/png;base64,"


def asked(body: Any) -> tuple[str, tuple[str, ...]]:
    """(text, image hashes) of a chat request."""
    content = body["messages"][-1]["content"]
    parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    pngs = [base64.b64decode(url.removeprefix(URL_HEAD)) for url in urls]
    return text, tuple(hashlib.sha256(png).hexdigest() for png in pngs)


def find(items: Sequence[Item], text: str, media: tuple[str, ...]) -> Item | None:
    """The item that this is about: of several the one with the longest question; none where the images are others."""
    found = [item for item in items if item.media == media and item.question.strip() in text]
    return max(found, key=lambda item: len(item.question), default=None)


def replier(items: Sequence[Item], doubtful: frozenset[str]) -> Callable[[Any], str]:
    """The reply to a request's body."""
    times: dict[str, int] = {}
    lock = threading.Lock()

    def reply(body: Any) -> str:
        text, media = asked(body)
        if "Rate it on three points" in text:
            return RATING
        item = find(items, text, media)
        answer = "something else"
        if item is not None:
            with lock:
                number = times[item.id] = times.get(item.id, 0) + 1
            if item.id not in doubtful or number % 2:
                answer = item.answer
        return f"<think>I look closely and weigh it. This speaks for {answer}.</think><answer>{answer}</answer>"

    return reply


def handler(reply: Callable[[Any], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the base class calls it by this name
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = {"role": "assistant", "content": reply(body)}
            document = {
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 10},
            }
            data = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def main() -> None:
    dataset, *doubtful = sys.argv[1:]
    items = list(stream_items(Path(dataset)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(replier(items, frozenset(doubtful))))
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
