"""A replica's door put together: its routes, and the small ones among them."""

import asyncio
import json
from pathlib import Path

from residency.platform.serving.audit import AuditLog
from residency.platform.serving.chat_route import Answerer, ChatRoute
from residency.platform.serving.door import Door
from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.feedback import FeedbackStore, read_rating, refuse_feedback
from residency.platform.serving.key_limits import KeyLimits
from residency.platform.serving.key_ring import KeyRing
from residency.platform.serving.openapi import openapi_document
from residency.platform.serving.refusals import Refusal
from residency.platform.serving.try_page import page_routes
from residency.platform.serving.uploads import Uploads
from residency.platform.serving.visit import Visit


class SmallRoutes:
    """Health, readiness, the list of models, uploads, feedback and the description of all of them."""

    def __init__(
        self, config: DoorConfig, answerer: Answerer, uploads: Uploads | None, feedback: FeedbackStore | None
    ) -> None:
        self._config, self._answerer, self._uploads, self._feedback = config, answerer, uploads, feedback
        self._openapi = json.dumps(openapi_document(config)).encode()

    async def health(self, visit: Visit) -> None:
        """Whether the replica lives."""
        if not self._answerer.healthy:
            raise Refusal(503, "unhealthy", "The engine is dead and is being replaced.", retry_after_seconds=10)
        await visit.respond(200, b'{"status":"ok"}')

    async def ready(self, visit: Visit) -> None:
        """Whether a request would be answered now."""
        if not self._answerer.ready:
            raise Refusal(503, "not_ready", "No request would be answered now.", retry_after_seconds=5)
        await visit.respond(200, b'{"status":"ready"}')

    async def models(self, visit: Visit) -> None:
        """Every model by its name, and every version of it that is on call."""
        cards = []
        for name, state in self._answerer.states.items():
            named = [(name, state.stable), *((f"{name}@{version}", version) for version in state.on_call)]
            cards += [
                {"id": shown, "object": "model", "created": 0, "owned_by": "residency", "residency": state.label(one)}
                for shown, one in named
            ]
        await visit.respond(200, json.dumps({"object": "list", "data": cards}).encode())

    async def media(self, visit: Visit) -> None:
        """Take an image; the reply says its hash."""
        if self._uploads is None:
            raise Refusal(403, "uploads_are_off", "This server keeps no uploaded images; send data URLs.")
        if not visit.content_type.startswith(b"image/"):
            raise Refusal(415, "unsupported_media_type", "The body is the image itself, as image/png or image/jpeg.")
        data = await visit.read_body(self._config.body_mib * 2**20)
        described = await asyncio.to_thread(self._uploads.put, data)
        await visit.respond(200, json.dumps(described).encode())

    async def feedback(self, visit: Visit) -> None:
        """Take a rating."""
        if self._feedback is None:
            raise refuse_feedback()
        rating = read_rating(await visit.read_json(2**20))
        await asyncio.to_thread(self._feedback.keep_rating, visit.key.id, rating)
        await visit.respond(200, json.dumps({"object": "feedback", "request_id": rating.request_id}).encode())

    async def openapi(self, visit: Visit) -> None:
        """The description of this API."""
        await visit.respond(200, self._openapi)


def replica_door(config: DoorConfig, answerer: Answerer, writer: str) -> Door:
    """The ASGI application; ``writer`` names this replica's files in shared folders."""
    uploads = Uploads(Path(config.media_folder), config.media_mib * 2**20) if config.media_folder else None
    feedback = (
        FeedbackStore(Path(config.feedback_folder), config.retention_days, writer) if config.feedback_folder else None
    )
    limits = KeyLimits()
    small = SmallRoutes(config, answerer, uploads, feedback)
    return Door(
        guarded={
            ("GET", "/v1/models"): small.models,
            ("POST", "/v1/chat/completions"): ChatRoute(config, answerer, limits, uploads, feedback),
            ("POST", "/v1/media"): small.media,
            ("POST", "/v1/feedback"): small.feedback,
        },
        free={
            ("GET", "/health"): small.health,
            ("GET", "/ready"): small.ready,
            ("GET", "/openapi.json"): small.openapi,
            **page_routes(config),
        },
        keys=KeyRing(config.key_digest, Path(config.keys_file) if config.keys_file else None),
        limits=limits,
        audit=AuditLog(Path(config.audit_folder) if config.audit_folder else None, writer),
    )
