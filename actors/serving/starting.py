"""Starting and stopping a served model from the driver, with a deadline and a cause in words."""

import logging
import secrets
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ray import serve
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

from residency.actors.key_guard import key_digest
from residency.actors.server import ServerConfig, build_server
from residency.platform.errors import BadInputError, DeadlineError, RoleError
from residency.platform.profiles import Profile
from residency.training.model_folder import check_model_folder

APPLICATION = "residency"
LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingHandle:
    """A running server. ``url`` is the OpenAI base URL (ends with ``/v1``)."""

    url: str
    model_name: str
    api_key: str

    def close(self) -> None:
        """Stop the model and Ray Serve in this cluster; returns when both are gone."""
        serve.shutdown()


def new_api_key() -> str:
    """A random key of 32 bytes."""
    return f"res-{secrets.token_urlsafe(32)}"


def start_serving(
    model_dir: Path,
    model_name: str,
    profile: Profile,
    api_key: str,
    port: int = 0,
    deadline_seconds: float = 300.0,
    *,
    host: str = LOOPBACK,
    max_model_len: int = 512,
) -> ServingHandle:
    """Put a model folder behind Ray Serve's HTTP proxy and return when it answers. Ray must be initialized.

    ``port`` 0 takes a free one. Raises ModelError for a folder that cannot be served, BadInputError for an empty key or
    a port that is taken, RoleError where the replica fails (with its own words), DeadlineError where it is late.
    """
    if not api_key.strip():
        raise BadInputError("an empty API key", "a key that callers must send", "leave --api-key out: one is made")
    check_model_folder(model_dir)
    started = time.monotonic()
    port = free_port(host, port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # its chatter in the driver; replicas log to files
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port, "request_timeout_s": profile.deadline_seconds},
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )
    config = ServerConfig.from_profile(
        profile,
        model_dir=model_dir.absolute(),
        model_name=model_name,
        digest=key_digest(api_key),
        max_model_len=max_model_len,
    )
    with ExitStack() as undo:  # whatever goes wrong, Ctrl-C included, no half-started server stays behind
        undo.callback(serve.shutdown)
        serve.run_many(
            [serve.RunTarget(build_server(config, profile), name=APPLICATION, route_prefix="/")],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
        _wait_until_running(model_dir, started, deadline_seconds)
        undo.pop_all()
    return ServingHandle(url=f"http://{host}:{port}/v1", model_name=model_name, api_key=api_key)


def free_port(host: str, port: int) -> int:
    """``port`` if it is free on ``host``, or any free one for 0; raises BadInputError where it is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInputError(
                f"{host}:{port} cannot be listened on ({error.strerror})", "a free port", "give another one with --port"
            ) from error
        return int(probe.getsockname()[1])


def _wait_until_running(model_dir: Path, started: float, deadline_seconds: float) -> None:
    while True:
        state: ApplicationStatusOverview | None = serve.status().applications.get(APPLICATION)
        if state is not None and state.status == ApplicationStatus.RUNNING:
            return
        if state is not None and state.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
            raise RoleError(
                f"the server of {model_dir} did not start: {_cause(state)}",
                "a replica that loads the model",
                "see the serve folder in the run's logs",
            )
        waited = time.monotonic() - started
        if waited > deadline_seconds:
            seen = "not known to Serve" if state is None else f"{state.status.value}: {_cause(state)}"
            raise DeadlineError(
                f"the server of {model_dir} was not ready after {waited:.0f} s ({seen})",
                f"an answer within {deadline_seconds:.0f} s",
                "is there a free CPU or GPU for it? Lower the server's share in the profile, or raise deadline_seconds",
            )
        time.sleep(POLL_SECONDS)


def _cause(state: ApplicationStatusOverview) -> str:
    messages = [state.message, *(deployment.message for deployment in state.deployments.values())]
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    raised = [line for line in lines if "Error" in line.split(":")[0]]
    return (raised or lines or ["no cause was given"])[-1][:500]
