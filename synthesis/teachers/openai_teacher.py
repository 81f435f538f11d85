"""Any OpenAI-compatible endpoint as a teacher: chat completions over aiohttp, with everything that goes wrong there."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from residency.platform.errors import RecipeError
from residency.platform.redaction import HIDDEN, redact
from residency.platform.synthesis_config import TeacherConfig
from residency.synthesis.teachers.adaptive_limit import AdaptiveLimit, Outcome
from residency.synthesis.teachers.chat_body import (
    SHOWN,
    Completion,
    data_url,
    encode_body,
    parse_completion,
    response_format,
    user_content,
)
from residency.synthesis.teachers.retrying import (
    ATTEMPTS,
    HOPELESS_STATUSES,
    RETRIED_STATUSES,
    jitter_seconds,
    retry_after_seconds,
)
from residency.synthesis.teachers.teacher import TeacherError, TeacherRefusedError, TeacherReply, TeacherRequest

PATIENCE = 4  # times the deadline of one attempt that all of a request's attempts may take
IMAGES_KEPT = 256  # encoded pictures in memory: the samples of one item follow each other
UNSUPPORTED = (400, 404, 415, 422, 501)  # what endpoints say to a parameter that they do not know


def read_key(variable: str | None) -> str:
    """The key out of the environment; empty where the recipe names none. Raises RecipeError where it is not set."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise RecipeError(
            f"the environment variable {variable} is not set",
            "the endpoint's API key in it",
            f"export {variable}=… before the start, or take key_variable out of the teacher",
        )
    return key


class OpenAITeacher:
    """``read_png`` gives an image's bytes by hash. Used from one loop; ``close`` ends its connections."""

    def __init__(self, config: TeacherConfig, read_png: Callable[[str], bytes], seed: int = 0) -> None:
        assert config.url is not None
        assert config.model is not None
        self.name, self.in_flight = config.model, config.in_flight
        self.limit = AdaptiveLimit(config.in_flight)
        self._config, self._read_png = config, read_png
        self._url = config.url.rstrip("/") + "/chat/completions"
        self._key = read_key(config.key_variable)
        self._rng = random.Random(seed)
        self._images: dict[str, str] = {}
        self._session: aiohttp.ClientSession | None = None
        self._takes_schema: bool | None = None  # not known before the first answer
        self._trying_schema = asyncio.Lock()

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        if request.schema is None or self._takes_schema is not None:
            return await self._ask(request, request.schema is not None and self._takes_schema is True)
        async with self._trying_schema:  # one tries it, the others wait for what it learns
            if self._takes_schema is None:
                return await self._ask(request, with_schema=True)
        return await self._ask(request, self._takes_schema)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, request: TeacherRequest, with_schema: bool) -> TeacherReply:
        """Attempts until one is answered; raises TeacherError after the last."""
        began, attempts, failures = time.monotonic(), 0, 0
        last = began + PATIENCE * self._config.deadline_seconds
        body = encode_body(await self._body(request, with_schema))
        while True:
            attempts += 1
            status, data, wait, cause = await self._attempt(request.key, attempts, body)
            if status == 200:
                if with_schema:
                    self._takes_schema = True
                return self._reply(parse_completion(data), time.monotonic() - began, attempts)
            if with_schema and self._takes_schema is None and status in UNSUPPORTED:
                self._takes_schema, with_schema = False, False
                body = encode_body(await self._body(request, with_schema))
                continue
            if status in HOPELESS_STATUSES:
                raise TeacherRefusedError(
                    f"{self._shown_url} refuses {self.name}: {cause}",
                    "a key with access and credit, an address that ends before /chat/completions, and a model's name",
                    "mend key_variable, url or model of the teacher and start again: it goes on",
                )
            failures += status != 429
            if (status and status != 429 and status not in RETRIED_STATUSES) or failures >= ATTEMPTS:
                raise self._given_up(attempts, cause)
            wait = max(wait, jitter_seconds(attempts - 1, self._rng))
            if time.monotonic() + wait > last:
                raise self._given_up(attempts, cause)
            await asyncio.sleep(wait)

    async def _attempt(self, key: str, attempt: int, body: bytes) -> tuple[int, bytes, float, str]:
        """(status, body, seconds to wait, cause) of one call; status 0 where there was none."""
        session = self._session or self._open()
        headers = {"X-Client-Request-Id": key if attempt == 1 else f"{key}#{attempt}"}
        began = await self.limit.acquire()
        outcome, pause = Outcome.FAILED, 0.0
        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                data = await response.read()
                status = response.status
                if status == 200:
                    outcome = Outcome.ANSWERED
                    return 200, data, 0.0, ""
                if status in (429, 503, 529):
                    pause = retry_after_seconds(response.headers)
                if status == 429:
                    outcome = Outcome.REFUSED
                elif status not in RETRIED_STATUSES:
                    outcome = Outcome.ANSWERED  # it was answered, if not as we like: no sign of overload
            return status, data, pause, self._hide(f"HTTP {status}: {data[:SHOWN].decode(errors='replace')}")
        except TimeoutError:
            return 0, b"", 0.0, f"no answer within {self._config.deadline_seconds:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return 0, b"", 0.0, self._hide(f"{type(error).__name__}: {error}")
        finally:
            self.limit.release(began, outcome, pause)

    def _reply(self, completion: Completion, seconds: float, attempts: int) -> TeacherReply:
        config = self._config
        cost = (completion.tokens_in * config.price_in + completion.tokens_out * config.price_out) / 1e6
        return TeacherReply(
            text=completion.text,
            finish_reason=completion.finish_reason,
            tokens_in=completion.tokens_in,
            tokens_out=completion.tokens_out,
            cost=cost,
            seconds=seconds,
            model=completion.model or self.name,
            revision=config.revision or completion.revision,
            attempts=attempts,
            fault=completion.fault,
        )

    async def _body(self, request: TeacherRequest, with_schema: bool) -> dict[str, Any]:
        images = [self._images.get(media) or await self._image(media) for media in request.media]
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": "user", "content": user_content(request.prompt, images)}],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
        }
        if with_schema and request.schema is not None:
            body["response_format"] = response_format(request.schema)
        return body

    async def _image(self, media: str) -> str:
        url = data_url(await asyncio.to_thread(self._read_png, media))
        while len(self._images) >= IMAGES_KEPT:
            del self._images[next(iter(self._images))]
        self._images[media] = url
        return url

    def _open(self) -> aiohttp.ClientSession:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._config.deadline_seconds),
            connector=aiohttp.TCPConnector(limit=self.in_flight),
        )
        return self._session

    @property
    def _shown_url(self) -> str:
        return self._hide(self._url.partition("?")[0])

    def _hide(self, text: str) -> str:
        return redact(text.replace(self._key, HIDDEN) if self._key else text)

    def _given_up(self, attempts: int, cause: str) -> TeacherError:
        return TeacherError(f"{self.name} at {self._shown_url} gave no reply in {attempts} attempts, the last: {cause}")
