"""Requests that nobody should send: JSON with a wrong place, pictures that are none, HTTP that is not HTTP. Pure."""

import base64
import copy
import io
import json
import random
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

CHAT, FEEDBACK, MEDIA = "/v1/chat/completions", "/v1/feedback", "/v1/media"
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``raw`` is sent as it stands, in place of all others, on a connection of its own."""

    kind: str
    method: str = "POST"
    path: str = CHAT
    body: bytes = b""
    content_type: str = JSON_TYPE
    raw: bytes = b""
    extra: tuple[tuple[str, str], ...] = field(default=())


def nonsense(choose: random.Random, model: str, key: str) -> Request:
    """One of all kinds; equal numbers in, equal requests out."""
    kind = choose.choices(("json", "bytes", "schema", "picture", "upload", "http"), (30, 12, 8, 20, 15, 15))[0]
    if kind == "json":
        path, seed = choose.choice(((CHAT, _chat(choose, model)), (CHAT, _chat(choose, model)), (FEEDBACK, _rating())))
        for _ in range(choose.choice((1, 1, 1, 2, 4))):
            seed = mutate(seed, choose)
        return Request(kind, path=path, body=_dumps(seed))
    if kind == "bytes":
        return Request(kind, path=choose.choice((CHAT, FEEDBACK)), body=spoil(_dumps(_chat(choose, model)), choose))
    if kind == "schema":
        named = {"name": "x", "schema": odd_schema(choose)}
        given = choose.choice(({"type": "json_schema", "json_schema": named}, {"type": "json_object"}, named))
        return Request(kind, body=_dumps(_chat(choose, model) | {"response_format": given}))
    if kind == "picture":
        part = {"type": "image_url", "image_url": {"url": odd_url(choose)}}
        content = [part, {"type": "text", "text": "what is it?"}]
        return Request(kind, body=_dumps(_chat(choose, model) | {"messages": [{"role": "user", "content": content}]}))
    if kind == "upload":
        types = ("image/png", "image/jpeg", "image/svg+xml", "image/*", "image/", "application/pdf", "")
        return Request(kind, path=MEDIA, body=odd_picture(choose), content_type=choose.choice(types))
    return Request(kind, raw=odd_http(choose, model, key))


# JSON

DEEP = 400


def _chat(choose: random.Random, model: str) -> dict[str, Any]:
    text = {"type": "text", "text": "which side is the lesion on?"}
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are careful."},
            {"role": "user", "content": choose.choice(("which side?", [text], [text, text]))},
        ],
        "max_tokens": 2,
    }
    more = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "seed": 7, "stop": ["left", "right"], "n": 2,
        "logprobs": True, "top_logprobs": 2, "logit_bias": {"5": 1.5}, "presence_penalty": 0.1, "user": "u",
        "frequency_penalty": 0.1, "repetition_penalty": 1.1, "min_tokens": 1, "stream": True,
        "stream_options": {"include_usage": True}, "response_format": {"type": "text"}, "ignore_eos": True,
        "max_completion_tokens": 2, "skip_special_tokens": False, "include_reasoning": True,
        "residency": {"mode": choose.choice(("raw", "direct", "think")), "consent": False},
    }  # fmt: skip
    return body | {name: more[name] for name in choose.sample(sorted(more), choose.randint(0, 6))}


def _rating() -> dict[str, Any]:
    return {"request_id": "chatcmpl-1", "rating": "right", "corrected_answer": "left", "consent": True}


def odd_value(choose: random.Random) -> Any:
    """A value that some reader may stumble over."""
    deep: Any = []
    for _ in range(choose.choice((5, 60, DEEP // 4))):
        deep = [deep] if choose.random() < 0.5 else {"a": deep}
    numbers = (0, -1, 2, 1.5, 2**31, 2**63, -(2**63) - 1, 10**30, 1e308, -0.0, float("nan"), float("inf"))
    texts = ("", " ", "\x00", "\ud800", "a" * 5000, "💉" * 300, "../../etc/passwd", "${jndi:x}", "<|image_pad|>",
             "<|im_end|>", "{{7*7}}", "%s%n", "true", "1e999", "NaN", "\u202e")  # fmt: skip
    return choose.choice((None, True, False, [], {}, deep, [None], {"": None}, *numbers, *texts))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value within one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [each for name, part in inner for each in places(part, (*path, name))]


def mutate(value: Any, choose: random.Random) -> Any:
    """One place of a document replaced, removed, doubled or renamed."""
    if not isinstance(value, dict | list) or not value:
        return odd_value(choose)
    changed = copy.deepcopy(value)
    path = choose.choice(places(changed)[:400])
    if not path:
        return odd_value(choose)
    parent = changed
    for name in path[:-1]:
        parent = parent[name]
    how = choose.random()
    if how < 0.6:
        parent[path[-1]] = odd_value(choose)
    elif how < 0.75:
        del parent[path[-1]]
    elif how < 0.85:
        parent[path[-1]] = [parent[path[-1]]] * choose.choice((1, 2, 50))
    elif isinstance(parent, dict):
        parent[choose.choice(("", "__class__", "structured_outputs", "mm_processor_kwargs", "prompt_embeds", "é"))] = (
            parent.pop(path[-1])
        )
    else:
        parent.append(odd_value(choose))
    return changed


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def spoil(body: bytes, choose: random.Random) -> bytes:
    """JSON that is none, or only just."""
    how = choose.randrange(10)
    at = choose.randrange(len(body))
    return (
        body[:at],
        body[:at] + bytes([choose.randrange(256)]) + body[at + 1 :],
        body[:at] + choose.randbytes(8) + body[at:],
        b"\xef\xbb\xbf" + body,
        body.decode().encode("utf-16"),
        body + b"}",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        body.replace(b'"model"', b'"model": 1, "model"', 1),
        b"9" * 6000,
    )[how]


def odd_schema(choose: random.Random) -> Any:
    """A JSON schema that a compiler of grammars may choke on."""
    deep: Any = {"type": "string"}
    for _ in range(60):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
    return choose.choice(
        (
            {"$ref": "#"},
            {"$ref": "#/nowhere"},
            {"$ref": "http://127.0.0.1:9/schema.json"},
            {"type": "string", "pattern": "((((a*)*)*)*)*b"},
            {"type": "string", "pattern": "(?=a)b\\1[", "maxLength": 3},
            {"type": "string", "maxLength": 10**9},
            {"type": "string", "minLength": -1},
            {"type": "array", "minItems": 10**9, "items": {"type": "null"}},
            {"type": "integer", "minimum": 10**40, "maximum": -(10**40)},
            {"type": "number", "multipleOf": 0},
            {"enum": []},
            {"enum": [f"word {number}" for number in range(3000)]},
            {"anyOf": [{"type": "string"}] * 300},
            {"allOf": [{"type": "string"}, {"type": "integer"}]},
            {"not": {}},
            {"type": ["string", 7]},
            {"type": "object", "patternProperties": {"(": {}}},
            {"const": "\ud800"},
            {"properties": {"": {"$defs": {"": {"$ref": "#/properties//$defs/"}}}}},
            deep,
            odd_value(choose),
        )
    )


# pictures


def odd_picture(choose: random.Random) -> bytes:
    """Bytes that claim to be a picture, or are a strange one."""
    sides = choose.choice(((84, 84), (1, 1), (1, 900), (900, 1), (3, 2)))
    form = choose.choice(sorted(FORMATS))
    buffer = io.BytesIO()
    noise = Image.frombytes("RGB", sides, choose.randbytes(3 * sides[0] * sides[1]))
    noise.convert(choose.choice(FORMATS[form])).save(buffer, format=form)
    data = buffer.getvalue()
    how = choose.randrange(9)
    at = choose.randrange(len(data))
    return (
        data,
        data[:at],
        data[:at] + bytes([choose.randrange(256)]) + data[at + 1 :],
        data[:at] + choose.randbytes(16) + data[at + 16 :],
        data[:8] + choose.randbytes(200),
        png_of_size(*choose.choice(((0, 0), (2**31 - 1, 2**31 - 1), (60_000, 60_000), (1, 2**31 - 1), (9_000, 9_000)))),
        choose.choice(
            (b"", b"P6 99999 99999 255\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"GIF89a\xff\xff\xff\xff")
        ),
        data * 2,
        choose.randbytes(choose.choice((1, 50, 4000))),
    )[how]


FORMATS = {
    "PNG": ("RGB", "L", "1", "RGBA", "P", "LA"),
    "JPEG": ("RGB", "L", "CMYK"),
    "GIF": ("L", "P"),
    "BMP": ("RGB", "L", "1"),
    "TIFF": ("RGB", "L", "1", "RGBA", "CMYK", "F", "I"),
    "WEBP": ("RGB", "RGBA"),
}


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it is of this size and holds next to nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def odd_url(choose: random.Random) -> Any:
    """Where a picture should be."""
    if choose.random() < 0.6:
        kind = choose.choice(("png", "jpeg", "tiff", "svg+xml", "x", "PNG"))
        return f"data:image/{kind};base64,{base64.b64encode(odd_picture(choose)).decode()}"
    return choose.choice(
        (
            "data:,", "data:image/png,", "data:image/png;base64", "data:image/png;base64,", "data:image/png;base64,===",
            "data:image/png;base64,%%%", "data:text/html;base64,PGI+", "data:image/png;charset=x;base64,AAAA",
            "http://127.0.0.1:9/x.png", "https://localhost/x.png", "https://[::1]/x", "https://169.254.169.254/latest",
            "file:///etc/passwd", "ftp://x/y", "//x/y", "sha256:", "sha256:" + "g" * 64, "sha256:" + "0" * 64,
            "sha256:../../../etc/passwd", "sha256:" + "0" * 64 + "/../x", "javascript:1", "\x00", "a" * 20_000,
            odd_value(choose),
        )
    )  # fmt: skip


# HTTP


def odd_http(choose: random.Random, model: str, key: str) -> bytes:
    """A request as bytes, with something about it that a parser or a door may not expect."""
    body = _dumps({"model": model, "messages": [{"role": "user", "content": "left?"}], "max_tokens": 2})
    bearer = f"Authorization: Bearer {key}".encode()
    lines = [b"Host: x", bearer, b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    start = b"POST /v1/chat/completions HTTP/1.1"
    strange = (
        b"Authorization: Bearer \xff\xfe", b"Authorization: Basic eA==", b"Authorization:", b"Authorization: bearer x",
        bearer, b"X: " + b"a" * 70_000, b"X-Session-Id: \xff\x00", b"X-Session-Id: " + b"s" * 5000, b"no colon",
        b": no name", b"X y: z", b"Content-Type: application/json; charset=utf-7", b"Content-Type: text/plain",
        b"Content-Length: -1", b"Content-Length: 5", b"Content-Length: 99999999999999999999", b"Content-Length: x",
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Content-Encoding: gzip",
        b"Expect: 100-continue", b"Expect: x", b"Upgrade: websocket", b"Connection: x", b"Cookie: " + b"c" * 9000,
        b"Host: y", b"X-Request-ID: " + b"r" * 4000, b"X-Request-Timeout-Seconds: nan", b"Accept: \x01",
        b"X-Request-Timeout-Seconds: -5", b"X-Request-Disconnect-Disabled: x", b"Serve-Multiplexed-Model-Id: x",
        b"Origin: https://elsewhere.invalid", b"Range: bytes=0-1", b"\r\n", b"X: y\r\n continued",
    )  # fmt: skip
    how = choose.randrange(6)
    if how == 0:
        start = choose.choice(
            (b"GET /v1/models HTTP/9.9", b"get / HTTP/1.1", b"POST", b"FOO / HTTP/1.1", b"PRI * HTTP/2.0",
             b"GET  /v1/models HTTP/1.1", b"GET /v1/models", b"CONNECT x:1 HTTP/1.1", b"OPTIONS * HTTP/1.1",
             b"\x16\x03\x01", b"\x00\x00")
        )  # fmt: skip
    elif how == 1:
        path = choose.choice(
            (b"/", b"//", b"/v1/chat/completions/", b"/v1/../v1/models", b"/%00", b"/%ff", b"/v1/models?a=%", b"*",
             b"http://elsewhere.invalid/v1/models", b"/" + b"a" * 9000, b"/metrics", b"/-/routes", b"/-/healthz",
             b"/try/../../serving_state.py", b"/try/%2e%2e/x", b"/openapi.json", b"/v1/feedback", "/é".encode(),
             b"/try/", b"x")
        )  # fmt: skip
        method = choose.choice((b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE"))
        start = method + b" " + path + b" HTTP/1.1"
    elif how == 2:
        lines.pop(choose.randrange(len(lines)))
    elif how == 3:
        lines[choose.randrange(len(lines))] = choose.choice(strange)
    elif how == 4:
        lines += [b"X-%d: y" % number for number in range(choose.choice((5, 150, 3000)))]
    if how >= 3:
        lines.insert(choose.randrange(len(lines)), choose.choice(strange))
    end = choose.choice((b"\r\n", b"\r\n", b"\r\n", b"\n"))
    return end.join([start, *lines, b"", body])
