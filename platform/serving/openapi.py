"""The OpenAPI document of the door: every route, with every status that it may answer."""

from typing import Any

from residency.platform.serving.answer_modes import MOST_CHOICES, AnswerMode
from residency.platform.serving.clinical_answer import clinical_schema
from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.feedback import RATINGS
from residency.platform.serving.serving_state import NOTICE
from residency.platform.serving.try_page import PATH

Schema = dict[str, Any]
STATUSES = {
    400: "The request is not understood: no JSON, an unknown or wrong field, an image that may not or cannot be used.",
    401: "No API key, or a wrong one.",
    403: "This server does not offer it.",
    404: "The model or version is not on call.",
    405: "Another method is wanted.",
    408: "The answer took longer than the server allows.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "A structured answer was not complete; no part of it is given out.",
    429: "The key's requests or tokens of this minute are used up; Retry-After says when to come again.",
    500: "The server failed at this request.",
    503: "The server is full, is loading, or is going; Retry-After says when to come again.",
}
EVERYWHERE = (401, 405, 408, 500, 503)
TEXT: Schema = {"type": "string"}
PART: Schema = {
    "oneOf": [
        {"type": "object", "required": ["type", "text"], "properties": {"type": {"const": "text"}, "text": TEXT}},
        {
            "type": "object",
            "required": ["type", "image_url"],
            "properties": {
                "type": {"const": "image_url"},
                "image_url": {
                    "type": "object",
                    "required": ["url"],
                    "properties": {"url": {"type": "string", "description": "data:image/…;base64,… or sha256:…"}},
                },
            },
        },
    ]
}
LABEL: Schema = {
    "type": "object",
    "description": "Who answered, and that it is no medical advice.",
    "required": ["model", "checkpoint", "version", "notice"],
    "properties": {name: TEXT for name in ("model", "checkpoint", "version", "notice")},
}


def chat_request() -> Schema:
    """The body of a chat."""
    message = {
        "type": "object",
        "required": ["role", "content"],
        "properties": {
            "role": {"enum": ["system", "user", "assistant"]},
            "content": {"oneOf": [TEXT, {"type": "array", "items": PART}]},
        },
    }
    own = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "mode": {"enum": [mode.value for mode in AnswerMode]},
            "consent": {"type": "boolean", "description": "This exchange may be kept and become training data."},
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["model", "messages"],
        "properties": {
            "model": {"type": "string", "description": "A name of /v1/models, or name@version."},
            "messages": {"type": "array", "minItems": 1, "items": message},
            "stream": {"type": "boolean"},
            "stream_options": {"type": "object", "properties": {"include_usage": {"type": "boolean"}}},
            "max_tokens": {"type": "integer", "minimum": 1},
            "max_completion_tokens": {"type": "integer", "minimum": 1},
            "n": {"type": "integer", "minimum": 1, "maximum": MOST_CHOICES},
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "seed": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
            "stop": {"oneOf": [TEXT, {"type": "array", "maxItems": 4, "items": TEXT}]},
            "user": {"type": "string", "description": "Keeps a session with one version, as X-Session-Id does."},
            "response_format": {"type": "object"},
            "residency": own,
        },
    }


def openapi_document(config: DoorConfig) -> Schema:
    """OpenAPI 3.1."""
    rating = {
        "type": "object",
        "additionalProperties": False,
        "required": ["request_id", "rating"],
        "properties": {
            "request_id": {"type": "string", "minLength": 1, "maxLength": 80},
            "rating": {"enum": list(RATINGS)},
            "corrected_answer": {"type": "string", "minLength": 1, "maxLength": 4000},
            "comment": {"type": "string", "maxLength": 4000},
            "consent": {"type": "boolean"},
        },
    }
    size = f"at most {config.body_mib} MiB"
    answered = {
        "type": "object",
        "required": ["id", "choices", "residency"],
        "properties": {"id": TEXT, "choices": {"type": "array"}, "usage": {"type": "object"}, "residency": LABEL},
    }
    chat = _route("Ask a model", answered, 400, 403, 404, 413, 415, 422, 429, body=_json(chat_request()))
    chat["responses"]["200"]["content"]["text/event-stream"] = {"schema": TEXT}
    session = {"name": "X-Session-Id", "in": "header", "required": False, "schema": TEXT}
    chat["parameters"] = [session]
    image = {"required": True, "description": size, "content": {"image/*": {"schema": {}}}}
    stored = {"type": "object", "required": ["id"], "properties": {"id": TEXT}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Residency", "version": "1", "description": NOTICE},
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _error(), "ClinicalAnswer": clinical_schema()},
        },
        "paths": {
            "/v1/chat/completions": {"post": chat},
            "/v1/models": {"get": _route("What is on call", {"type": "object", "required": ["data"]})},
            "/v1/media": {"post": _route("Upload an image", stored, 400, 403, 413, 415, 429, body=image)},
            "/v1/feedback": {
                "post": _route("Rate an answer", {"type": "object"}, 400, 403, 413, 415, 429, body=_json(rating))
            },
            "/health": {"get": _free("Whether the server lives")},
            "/ready": {"get": _free("Whether a request would be answered now")},
            "/openapi.json": {"get": _free("This document")},
            PATH: {"get": _page()},
        },
    }


def _json(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _route(summary: str, schema: Schema, *statuses: int, body: Schema | None = None) -> Schema:
    refused = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    responses: Schema = {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}}
    for status in sorted({*statuses, *EVERYWHERE}):
        responses[str(status)] = {"description": STATUSES[status], **({} if status in (408, 500) else refused)}
    return {"summary": summary, "responses": responses, **({"requestBody": body} if body else {})}


def _free(summary: str) -> Schema:
    route = _route(summary, {"type": "object"})
    return route | {"security": []}


def _page() -> Schema:
    page = _free("The page to try a model; what it loads lies below this path")
    page["responses"]["200"]["content"] = {"text/html": {"schema": TEXT}}
    return page


def _error() -> Schema:
    fields = ("message", "type", "param", "code")
    inner = {"type": "object", "required": list(fields), "properties": {name: {} for name in fields}}
    return {"type": "object", "required": ["error"], "properties": {"error": inner}}
