"""``POST /v1/chat/completions``: what is asked, of which version, answered by what stands behind the door."""

import asyncio
import logging
from typing import Any, Protocol

from residency.platform.registry.answer_form import answer_form, last_text
from residency.platform.registry.routing import choose_version
from residency.platform.serving.answer_modes import Asked, read_request
from residency.platform.serving.audit import timestamp
from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.feedback import Exchange, FeedbackStore, refuse_feedback
from residency.platform.serving.images import resolve_images
from residency.platform.serving.key_limits import KeyLimits
from residency.platform.serving.refusals import Refusal, bad_request
from residency.platform.serving.remote_images import fetch_image
from residency.platform.serving.replies import Reply
from residency.platform.serving.reply_texts import ReplyTexts
from residency.platform.serving.serving_state import ServingState
from residency.platform.serving.uploads import Uploads
from residency.platform.serving.visit import Visit

log = logging.getLogger(__name__)


class Answerer(Protocol):
    """What stands behind the door."""

    @property
    def states(self) -> dict[str, ServingState]:
        """What is on call, by the model's public name."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether it lives."""
        ...

    @property
    def ready(self) -> bool:
        """Whether a request would be answered now."""
        ...

    def refuse_if_full(self) -> None:
        """Raises Refusal (503) where no request can be taken, before anything of it is read."""
        ...

    async def answer(self, asked: Asked, model: str, version: str, named: bool, request_id: str) -> Reply:
        """Answer by the version; where it was not ``named`` by the caller, the stable one may step in."""
        ...


class ChatRoute:
    """One replica's."""

    def __init__(
        self,
        config: DoorConfig,
        answerer: Answerer,
        limits: KeyLimits,
        uploads: Uploads | None,
        feedback: FeedbackStore | None,
    ) -> None:
        self._config, self._answerer, self._limits = config, answerer, limits
        self._uploads, self._feedback = uploads, feedback

    async def __call__(self, visit: Visit) -> None:
        """Read, choose, answer, charge."""
        self._answerer.refuse_if_full()
        asked = read_request(await visit.read_json(self._config.body_mib * 2**20))
        if asked.consent and self._feedback is None:
            raise refuse_feedback()
        body = asked.body
        body["messages"] = await resolve_images(body["messages"], self._config, self._uploads, self._fetch)
        visit.mode = asked.mode.value
        model, version, named = self._wanted(visit, body)
        body["model"], visit.model, visit.chosen = model, model, version
        watched = self._answerer.states[model].canary is not None
        reply = visit.reply = await self._answerer.answer(asked, model, version, named, visit.id)
        texts = ReplyTexts() if asked.consent or watched else None
        if texts is not None and reply.stream is not None:
            reply.stream = texts.gather(reply.stream)
        try:
            await visit.send_reply(reply)
        finally:
            await reply.close()
            self._limits.charge(visit.key, reply.usage.prompt_tokens + reply.usage.completion_tokens)
        if texts is None:
            return
        if reply.stream is None:
            texts.read(reply.body)
        if watched:
            question = last_text(body["messages"])
            visit.form = answer_form(visit.mode, question, texts.answer, texts.reasoning, texts.finish_reason)
        if asked.consent:
            await asyncio.to_thread(self._keep, visit, asked, reply, texts)

    async def _fetch(self, url: str) -> bytes:
        return await fetch_image(url, self._config.remote_images, self._config.body_mib * 2**20)

    def _wanted(self, visit: Visit, body: dict[str, Any]) -> tuple[str, str, bool]:
        """(model, version, whether the caller named the version)."""
        states, name = self._answerer.states, body.get("model")
        if name is None and len(states) == 1:
            name = next(iter(states))
        if not isinstance(name, str):
            raise bad_request("`model` is a text.", "model")
        model, at, version = name.partition("@")
        state = states.get(model)
        if state is None or (at and version not in state.on_call):
            raise Refusal(404, "model_not_found", f"The model {name[:200]!r} is not on call.", "model")
        if at:
            return model, version, True
        canary = None if state.canary is None else (state.canary.version, state.canary.share)
        return model, choose_version(_session(visit, body), state.stable, canary), False

    def _keep(self, visit: Visit, asked: Asked, reply: Reply, texts: ReplyTexts) -> None:
        assert self._feedback is not None
        try:
            self._feedback.keep_exchange(
                Exchange(
                    request_id=texts.id,
                    time=timestamp(),
                    key=visit.key.id,
                    model=visit.model,
                    version=reply.label["version"],
                    mode=visit.mode,
                    messages=asked.body["messages"],
                    reasoning=texts.reasoning,
                    answer=texts.answer,
                )
            )
        except OSError as error:  # the answer is out: a full disk is told to who runs the server
            log.error("an exchange was not kept: %s", error)


def _session(visit: Visit, body: dict[str, Any]) -> str:
    header = visit.headers.get(b"x-session-id", b"").decode("latin-1").strip()
    user = body.get("user")
    return header or (user if isinstance(user, str) and user else "") or visit.key.id
