"""A model on call: one Ray Serve deployment whose replicas hold a vLLM engine and answer at their own door.

Ray Serve gives the proxy, the health checks, the restarts and, by ``user_config``, what is on call. A replica answers
itself what is for the version that it holds, and hands on what is for another one (a canary, another model): that
lives in an application of its own. Importing this file loads neither vLLM nor torch.
"""

import os
import re
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from residency.actors.engine_config import engine_environment
from residency.actors.serving.engine_host import EngineHost
from residency.actors.serving.engine_settings import ServerConfig
from residency.platform.media_store import MAX_PIXELS
from residency.platform.profiles import Profile
from residency.platform.serving.answer_modes import Asked
from residency.platform.serving.door import Door
from residency.platform.serving.refusals import Refusal
from residency.platform.serving.replica_door import replica_door
from residency.platform.serving.replies import Reply, Usage
from residency.platform.serving.serving_state import ServingState, parse_states

APPLICATION = "residency"
DEPLOYMENT = "model"


def peer_application(model: str, canary: str | None = None) -> str:
    """The application of another model than the door's own, or of a version on trial."""
    name = f"{APPLICATION}-{model}" + (f"@{canary}" if canary else "")
    return re.sub(r"[^A-Za-z0-9@._-]", "-", name)


@serve.ingress()
class ModelServer:
    """One replica: an engine, what is on call, and the door."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._host = EngineHost(config)
        self._peers: dict[str, Any] = {}  # application → its handle
        self.states: dict[str, ServingState] = {}

    async def reconfigure(self, document: Any) -> None:
        """Put what is on call into effect."""
        states = parse_states(document)
        own = next(iter(states.values()))
        await self._host.hold(own, own.stable)
        self.states = states

    async def __serve_build_asgi_app__(self) -> Door:
        """The application that Serve mounts."""
        return replica_door(self._config.door, self, f"{os.uname().nodename}-{os.getpid()}")

    @property
    def healthy(self) -> bool:
        """Whether the engine lives."""
        return not self._host.broken

    @property
    def ready(self) -> bool:
        """Whether a request would be answered at once."""
        return self._host.ready

    def refuse_if_full(self) -> None:
        """Raises Refusal (503) before a body is read."""
        self._host.refuse_if_full()

    async def answer(self, asked: Asked, model: str, version: str, named: bool, request_id: str) -> Reply:
        """Here, where the version is held; else by its own application. Raises Refusal."""
        state = self.states[model]
        own = next(iter(self.states)) == model
        if own and version in (state.stable, self._host.version):
            return await self._host.answer(asked, version if named else None, request_id)
        peer = peer_application(model, None if version == state.stable else version)
        try:
            return await self._ask_peer(peer, asked, version if named else None, request_id)
        except (RayError, RayServeException, KeyError) as error:
            if named or not own:
                raise Refusal(
                    503, "not_ready", f"Version {version} cannot be reached.", retry_after_seconds=5
                ) from error
            return await self._host.answer(asked, None, request_id)  # nobody is sent away because a trial ended

    async def _ask_peer(self, application: str, asked: Asked, version: str | None, request_id: str) -> Reply:
        handle: Any = self._peers.get(application)
        if handle is None:
            handle = serve.get_app_handle(application).options(method_name="hand_over", stream=True)
            self._peers[application] = handle
        pieces = handle.remote(asked, version, request_id)
        try:
            first = await anext(aiter(pieces))
        except BaseException:
            self._peers.pop(application, None)
            raise
        if isinstance(first, Refusal):
            raise first
        reply: Reply = first
        if reply.body:
            return reply

        async def stream() -> AsyncGenerator[bytes, None]:
            async for piece in pieces:
                if isinstance(piece, Usage):
                    reply.usage.prompt_tokens = piece.prompt_tokens
                    reply.usage.completion_tokens = piece.completion_tokens
                else:
                    yield piece

        reply.stream, reply.release = stream(), pieces.cancel
        return reply

    async def hand_over(self, asked: Asked, version: str | None, request_id: str) -> AsyncGenerator[Any, None]:
        """For another replica's door: the reply (or Refusal), then the pieces of a stream and what it came to."""
        try:
            reply = await self._host.answer(asked, version, request_id)
        except Refusal as refusal:
            yield refusal
            return
        try:
            yield replace(reply, stream=None, release=None)
            if reply.stream is not None:
                async for piece in reply.stream:
                    yield piece
                yield reply.usage
        finally:
            await reply.close()

    async def check_health(self) -> None:
        """Raises where the engine is dead: Serve then replaces the replica."""
        await self._host.check()

    def __del__(self) -> None:
        host = getattr(self, "_host", None)
        if host is not None:  # absent where the constructor failed
            host.close()


def build_server(config: ServerConfig, profile: Profile) -> serve.Application:
    """The Serve application of one model."""
    environment = engine_environment(profile.server.threads) | {"VLLM_MAX_IMAGE_PIXELS": str(MAX_PIXELS)}
    options: dict[str, Any] = {
        "num_cpus": profile.server.cpus,
        "num_gpus": profile.server.gpus,
        "runtime_env": {"env_vars": environment},
    }
    if profile.server.labels:
        options["label_selector"] = dict(profile.server.labels)
    role = profile.server
    replicas: dict[str, Any] = {"num_replicas": role.actors}
    if role.most_actors > role.actors:
        replicas = {
            "num_replicas": "auto",
            "autoscaling_config": {
                "min_replicas": role.actors,
                "max_replicas": role.most_actors,
                "target_ongoing_requests": config.max_sequences // 2,
            },
        }
    deployment = serve.deployment(
        name=DEPLOYMENT,
        # the door refuses at fewer, with 503 and when to come again; these are a second fence
        max_ongoing_requests=2 * config.most_in_flight,
        max_queued_requests=2 * config.most_in_flight,
        max_constructor_retry_count=1,  # a model that does not load will not load the second time
        health_check_period_s=10,
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=30,  # what runs is answered to its end
        ray_actor_options=options,
        **replicas,
    )(ModelServer)
    return deployment.bind(config)
