"""One vLLM engine, the version whose weights it holds, and vLLM's chat serving around it."""

import asyncio
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import ValidationError

from residency.actors.serving.chat_stream import checked_stream, incomplete, labelled_stream
from residency.actors.serving.engine_settings import ServerConfig
from residency.actors.serving.version_gate import VersionGate
from residency.platform.serving.answer_modes import AnswerMode, Asked
from residency.platform.serving.clinical_answer import is_clinical_answer
from residency.platform.serving.refusals import Refusal, bad_request
from residency.platform.serving.replies import Reply, Usage
from residency.platform.serving.serving_state import ServingState, Version
from residency.platform.serving.version_files import adapter_rank, layout_of
from residency.training.model_folder import check_model_folder

if TYPE_CHECKING:
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse
    from vllm.v1.engine.async_llm import AsyncLLM

# What Pillow raises beside ValueError and OSError, which vLLM knows
BROKEN_IMAGE = (SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
BASE_NAME = "base"  # what the model below an adapter is called inside the engine


def not_ready() -> Refusal:
    """503: it will be, or another replica is."""
    return Refusal(503, "not_ready", "The model is not ready.", retry_after_seconds=5)


def refusal_of(answered: "ErrorResponse") -> Refusal:
    """vLLM's own refusal in our words' form. What it says of itself (5xx) stays in the log."""
    error = answered.error
    if error.code >= 500 and error.code != 501:
        return Refusal(500, "engine_error", "The engine failed at this request.")
    status = 400 if error.code not in (404, 422) else error.code
    code = "model_not_found" if status == 404 else "invalid_value"
    return Refusal(status, code, error.message, error.param)


@dataclass(frozen=True, slots=True)
class Handlers:
    """vLLM's chat serving for one version: plain, and with our tags read as reasoning."""

    plain: "OpenAIServingChat"
    thinking: "OpenAIServingChat"


class EngineHost:
    """``hold`` puts a version's weights in, ``answer`` answers with them. For one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._gate = VersionGate(config.deadline_seconds)
        self._engine: AsyncLLM | None = None
        self._layout = ""
        self._handlers: Handlers | None = None
        self._adapter_ids = 0
        self.version = ""  # whose weights are in
        self._weights: tuple[str | None, ...] = ()  # where they are from: an id alone may come to mean others
        self.label: dict[str, str] = {}
        self.fault = ""  # why it can never answer again

    @property
    def running(self) -> int:
        """Requests that are being answered."""
        return self._gate.running

    @property
    def ready(self) -> bool:
        """Whether a request would be answered now."""
        return self._handlers is not None and not self._gate.updating and not self.broken

    @property
    def broken(self) -> bool:
        """Whether the replica must be replaced."""
        return bool(self.fault) or (self._engine is not None and self._engine.errored)

    async def hold(self, state: ServingState, version_id: str) -> None:
        """Put a version's weights in: in place where the layout is the same, else by another engine.

        Requests that are being answered are answered first, by the weights that they began with; those that come
        meanwhile wait. Raises ModelError for a folder that cannot be served (the old version goes on), and any error
        of a load that had begun (the replica is then broken).
        """
        version = state.versions[version_id]
        weights = (version_id, version.path, version.digest, version.adapter)
        if weights == self._weights and self._handlers is not None:
            self.label = state.label(version_id)
            return
        folder = Path(version.path)
        await asyncio.to_thread(check_model_folder, folder, self._config.trust_remote_code)
        layout = await asyncio.to_thread(layout_of, version)
        rank = None if version.adapter is None else adapter_rank(Path(version.adapter))
        async with self._gate.update():
            self._handlers = None
            try:
                if self._engine is not None and layout == self._layout and rank is None:
                    await self._load_in_place(self._engine, folder, version_id)
                else:
                    await self._start_engine(folder, state.model if rank is None else BASE_NAME, rank)
                self._handlers = await self._make_handlers(state.model, version_id, version)
            except BaseException as error:
                self.fault = f"loading version {version_id} failed: {error}"
                raise
            self._layout, self._weights = layout, weights
            self.version, self.label = version_id, state.label(version_id)

    async def _start_engine(self, folder: Path, name: str, rank: int | None) -> None:
        from vllm import AsyncEngineArgs
        from vllm.config import StructuredOutputsConfig
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest
        from vllm.v1.engine.async_llm import AsyncLLM

        self.close()
        arguments = AsyncEngineArgs(
            **self._config.engine_arguments(folder, name, rank),
            # a model may write white space for ever where a grammar lets it
            structured_outputs_config=StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True),
        )
        # in a thread: it takes a while, and the replica's health is asked meanwhile
        self._engine = await asyncio.to_thread(AsyncLLM.from_engine_args, arguments)
        await self._engine.init_weight_transfer_engine(WeightTransferInitRequest(init_info={}))

    async def _load_in_place(self, engine: "AsyncLLM", folder: Path, version_id: str) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await engine.pause_generation(mode="wait", clear_cache=True)
        await engine.start_weight_update()
        await engine.update_weights(WeightTransferUpdateRequest(update_info={"folder": str(folder)}))
        await engine.finish_weight_update(version_id)
        await engine.reset_encoder_cache()
        await engine.resume_generation()

    async def _make_handlers(self, name: str, version_id: str, version: Version) -> Handlers:
        from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
        from vllm.entrypoints.openai.models.protocol import BaseModelPath
        from vllm.entrypoints.openai.models.serving import OpenAIServingModels
        from vllm.lora.request import LoRARequest
        from vllm.renderers.online_renderer import OnlineRenderer

        from residency.actors.serving.tagged_reasoning import TAGGED

        engine = self._engine
        assert engine is not None
        base = name if version.adapter is None else BASE_NAME
        models = OpenAIServingModels(engine, [BaseModelPath(name=base, model_path=version.path)])
        if version.adapter is not None:
            self._adapter_ids += 1
            adapter = LoRARequest(lora_name=name, lora_int_id=self._adapter_ids, lora_path=version.adapter)
            await engine.add_lora(adapter)
            models.lora_requests[name] = adapter

        def handler(parser: str) -> OpenAIServingChat:
            renderer = OnlineRenderer(
                engine.model_config,
                engine.renderer,
                request_logger=None,
                chat_template=None,
                chat_template_content_format="auto",
                reasoning_parser=parser,
            )
            renderer.warmup()
            return OpenAIServingChat(
                engine,
                models,
                "assistant",
                online_renderer=renderer,
                request_logger=None,
                chat_template=None,
                chat_template_content_format="auto",
                reasoning_parser=parser,
            )

        return Handlers(plain=handler(""), thinking=handler(TAGGED))

    def refuse_if_full(self) -> None:
        """Raises Refusal (503, when to come again) where as many requests are here as may be."""
        if self._gate.present >= self._config.most_in_flight:
            raise Refusal(503, "busy", "Too many requests are being answered.", retry_after_seconds=1)

    async def answer(self, asked: Asked, wanted: str | None, request_id: str) -> Reply:
        """One chat. ``wanted`` is the version that the caller named. Raises Refusal where it is not answered.

        The request keeps its place until the reply is closed.
        """
        self.refuse_if_full()
        await self._gate.enter()
        try:
            reply = await self._answer(asked, wanted, request_id)
        except BaseException:
            self._gate.leave()
            raise
        reply.release = self._gate.leave
        return reply

    async def _answer(self, asked: Asked, wanted: str | None, request_id: str) -> Reply:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
        from vllm.entrypoints.serve import create_error_response
        from vllm.entrypoints.serve.engine.protocol import ErrorResponse
        from vllm.exceptions import VLLMError

        handlers = self._handlers
        if handlers is None or self.broken:
            raise not_ready()
        if wanted is not None and wanted != self.version:
            raise Refusal(404, "model_not_found", f"Version {wanted} is no longer on call.", "model")
        handler = handlers.thinking if asked.mode is AnswerMode.THINK else handlers.plain
        label, usage, raw = self.label, Usage(), SimpleNamespace(headers={}, state=SimpleNamespace())
        try:
            request = ChatCompletionRequest.model_validate(asked.body | {"request_id": request_id})
        except ValidationError as error:
            first = error.errors()[0]
            raise bad_request(first["msg"], ".".join(map(str, first["loc"]))) from error
        except VLLMError as error:
            raise refusal_of(create_error_response(error)) from error
        try:
            answered: Any = await handler.create_chat_completion(request, raw)  # type: ignore[arg-type]
        except (VLLMError, ValueError, TypeError, OverflowError, NotImplementedError) as error:
            answered = create_error_response(error)
        except BROKEN_IMAGE as error:
            raise bad_request(f"An image cannot be decoded ({error}).", "messages", "invalid_image") from error
        if isinstance(answered, ErrorResponse):
            refusal = not_ready() if self.broken else refusal_of(answered)
            if refusal.status == 500 and request.response_format is not None:
                # what a living engine ends by itself is a request whose grammar it could not compile
                raise bad_request("The engine cannot follow this `response_format`.", "response_format")
            raise refusal
        if request.stream:
            events = labelled_stream(answered, label, usage, raw.state)
            if asked.mode is AnswerMode.STRUCTURED:
                events = checked_stream(events)
            return Reply(status=200, label=label, stream=events, usage=usage)
        usage.prompt_tokens = answered.usage.prompt_tokens
        usage.completion_tokens = answered.usage.completion_tokens or 0
        if asked.mode is AnswerMode.STRUCTURED and not is_clinical_answer(answered.choices[0].message.content or ""):
            raise incomplete(answered.choices[0].finish_reason or "unknown")
        body = answered.model_dump(exclude_none=True) | {"residency": label}
        return Reply(status=200, label=label, body=json.dumps(body).encode(), usage=usage)

    async def check(self) -> None:
        """Raises where the engine is dead or a load broke it."""
        if self.fault:
            raise RuntimeError(self.fault)
        if self._engine is not None:
            await self._engine.check_health()

    def close(self) -> None:
        """End the engine's process."""
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None
