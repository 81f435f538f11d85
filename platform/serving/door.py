"""The door of a served model: plain ASGI from the socket to the routes, without Ray and vLLM.

Every request passes the same steps: route, key, limits, and what the route asks; the audit log gets its line. What
stands here is known before a body is read.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from residency.platform.serving.audit import AuditLog, AuditRecord, timestamp
from residency.platform.serving.key_limits import KeyLimits
from residency.platform.serving.key_ring import KeyRing
from residency.platform.serving.refusals import Refusal
from residency.platform.serving.visit import Message, Receive, Send, Visit

Handler = Callable[[Visit], Awaitable[None]]
Route = tuple[str, str]  # method and path
log = logging.getLogger(__name__)
CLIENT_LEFT = 499  # in the audit log only: nobody was there to be told


class Door:
    """The ASGI application of one replica. ``guarded`` routes want a key, ``free`` ones are open to all."""

    def __init__(
        self,
        guarded: dict[Route, Handler],
        free: dict[Route, Handler],
        keys: KeyRing,
        limits: KeyLimits,
        audit: AuditLog,
    ) -> None:
        self._guarded, self._free = guarded, free
        self._keys, self._limits, self._audit = keys, limits, audit
        self._paths = {path for _, path in (*guarded, *free)}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":  # a websocket is closed before it is accepted: answered with 403
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        visit = Visit(scope["method"], path, dict(scope["headers"]), receive, send)
        keys = [value for name, value in scope["headers"] if name == b"authorization"]
        status, code = 200, ""
        try:
            await self._serve(visit, keys[0] if len(keys) == 1 else None)
        except Refusal as refusal:
            status, code = refusal.status, refusal.code
            if not visit.begun:
                await visit.respond(status, refusal.body(), extra=refusal.headers())
        except asyncio.CancelledError:
            status, code = CLIENT_LEFT, "client_left"
            raise
        except Exception:  # the last boundary: whatever is wrong with us is said in the API's own form
            log.exception("a request failed: %s %s", visit.method, visit.id)
            status, code = 500, "internal_error"
            if visit.begun:
                raise  # the client sees a broken stream, not a short one
            await visit.respond(500, Refusal(500, code, "The server failed at this request.").body())
        finally:
            if (visit.method, path) not in self._free:
                self._note(visit, status, code)

    async def _serve(self, visit: Visit, authorization: bytes | None) -> None:
        route = visit.method, visit.path
        if route in self._free:
            await self._free[route](visit)
            return
        visit.caller = self._keys.find(authorization)
        if visit.caller is None:
            raise Refusal(401, "invalid_api_key", "Incorrect or missing API key.")
        if route not in self._guarded:
            if visit.path in self._paths:
                raise Refusal(405, "method_not_allowed", f"{visit.method} is not for {visit.path}.")
            raise Refusal(404, "unknown_url", f"Unknown path {visit.path[:200]}.")
        if visit.method == "POST":
            self._limits.admit(visit.caller)
        await self._guarded[route](visit)

    def _note(self, visit: Visit, status: int, code: str) -> None:
        reply = visit.reply
        self._audit.write(
            AuditRecord(
                time=timestamp(),
                request_id=visit.id,
                key=visit.caller.id if visit.caller else "",
                route=f"{visit.method} {visit.path}" if visit.path in self._paths else "other",
                model=visit.model,
                chosen=visit.chosen,
                version=reply.label["version"] if reply else "",
                mode=visit.mode,
                status=status,
                code=code,
                prompt_tokens=reply.usage.prompt_tokens if reply else 0,
                completion_tokens=reply.usage.completion_tokens if reply else 0,
                seconds=round(time.perf_counter() - visit.started, 4),
                malformed=visit.form.malformed if visit.form else None,
                abstained=visit.form.abstained if visit.form else None,
            )
        )


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
