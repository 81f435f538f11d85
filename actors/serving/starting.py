"""Starting, changing and stopping what is served, from the driver: every wait has a deadline and a cause in words."""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview, ServeDeploySchema

from residency.actors.serving.serve_application import ServeArguments, build
from residency.actors.serving.server import APPLICATION, DEPLOYMENT, peer_application
from residency.platform.errors import BadInputError, DeadlineError, RoleError
from residency.platform.profiles import Profile
from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.key_ring import key_digest
from residency.platform.serving.serving_state import ServingState, Version
from residency.platform.serving.version_files import layout_of
from residency.training.model_folder import check_model_folder

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.2
QUIET = {"log_level": "WARNING", "enable_access_log": False}  # the audit log says who asked, and costs less


@dataclass(kw_only=True)
class ServingHandle:
    """A running server. ``url`` is the OpenAI base URL (ends with ``/v1``)."""

    url: str
    api_key: str
    arguments: ServeArguments
    deadline_seconds: float
    states: list[ServingState] = field(default_factory=list)

    @property
    def model_name(self) -> str:
        """The name that callers ask for (of the first model)."""
        return self.states[0].model

    def apply(self, states: Sequence[ServingState], superseded: Callable[[], bool] = lambda: False) -> bool:
        """Change what is on call and return True when it is in effect; the first model stays the first.

        False where ``superseded``, asked while it waits, says that this change is wanted no more: the next call then
        goes on from whatever has come of it.

        What is new is started before anything points to it, what is no longer needed is drained after nothing does.
        Raises ModelError for a folder that cannot be served, before anything is changed; RoleError where a replica
        does not take its new weights and DeadlineError where it is late, after what was on call was put back.
        """
        _check_folders(states, self.states)
        wanted = applications(states, self.arguments)
        names = {app["name"] for app in wanted}
        now = applications(self.states, self.arguments) if self.states else []
        kept = [app for app in now if app["name"] not in names]
        door = [app for app in now if app["name"] == APPLICATION]
        news = [app for app in wanted if app["name"] not in {each["name"] for each in now}]
        steps = [[*wanted, *kept]]
        if door and news:
            steps.insert(0, [*door, *kept, *[app for app in wanted if app["name"] != APPLICATION]])
        if kept:
            steps.append(wanted)
        try:
            if not all(self._deploy(step, superseded) for step in steps):
                return False
        except RoleError:
            if now:
                self._deploy(now, lambda: False)
            raise
        self.states = list(states)
        return True

    def _deploy(self, wanted: list[dict[str, Any]], superseded: Callable[[], bool]) -> bool:
        started = time.monotonic()
        client: Any = _get_global_client()  # what `serve deploy` reaches through the dashboard, which may not run here
        client.deploy_apps(ServeDeploySchema.model_validate({"applications": wanted}))
        return _wait_until_running([app["name"] for app in wanted], started, self.deadline_seconds, superseded)

    def close(self) -> None:
        """Stop the models and Ray Serve in this cluster; returns when all are gone."""
        serve.shutdown()


def applications(states: Sequence[ServingState], arguments: ServeArguments) -> list[dict[str, Any]]:
    """The ``applications`` of a Serve file: the door with the first model, one for each other model and canary."""

    def application(name: str, prefix: str | None, config: Any) -> dict[str, Any]:
        return {
            "name": name,
            "route_prefix": prefix,
            "import_path": f"{build.__module__}:{build.__name__}",
            "args": arguments.model_dump(),
            "logging_config": QUIET,
            "deployments": [{"name": DEPLOYMENT, "user_config": config}],
        }

    on_call = [state.model_dump() for state in states]
    made = [application(APPLICATION, "/", on_call[0] if len(on_call) == 1 else {"models": on_call})]
    for number, state in enumerate(states):
        if number:
            alone = state.model_copy(update={"canary": None})
            made.append(application(peer_application(state.model), None, alone.model_dump()))
        for version in state.on_call[1:]:
            trial = state.model_copy(update={"stable": version, "canary": None})
            made.append(application(peer_application(state.model, version), None, trial.model_dump()))
    return made


def single_state(model_dir: Path, model_name: str, adapter: Path | None = None) -> ServingState:
    """What is on call where there is no registry: one folder, as version ``v1``."""
    version = Version(
        path=str(model_dir.absolute()), checkpoint=model_name, adapter=str(adapter.absolute()) if adapter else None
    )
    return ServingState(model=model_name, versions={"v1": version}, stable="v1")


def start_serving(
    states: Sequence[ServingState],
    profile: Profile,
    api_key: str,
    port: int = 0,
    deadline_seconds: float = 300.0,
    *,
    host: str = LOOPBACK,
    max_model_len: int = 512,
    door: DoorConfig | None = None,
) -> ServingHandle:
    """Put models behind Ray Serve's HTTP proxy and return when they answer. Ray must be initialized.

    ``port`` 0 takes a free one; ``door`` without keys gets ``api_key``'s. Raises ModelError for a folder that cannot
    be served, BadInputError for an empty key or a port that is taken, RoleError where a replica fails (with its own
    words), DeadlineError where it is late.
    """
    if not api_key.strip():
        raise BadInputError("an empty API key", "a key that callers must send", "leave --api-key out: one is made")
    _check_folders(states, [])
    port = free_port(host, port)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # its chatter in the driver; replicas log to files
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": host, "port": port, "request_timeout_s": profile.deadline_seconds},
        logging_config=QUIET,
    )
    settings = door or DoorConfig(key_digest=key_digest(api_key))
    arguments = ServeArguments(
        profile=profile.model_dump(), max_model_len=max_model_len, door=settings.model_dump(mode="json")
    )
    handle = ServingHandle(
        url=f"http://{host}:{port}/v1", api_key=api_key, arguments=arguments, deadline_seconds=deadline_seconds
    )
    with ExitStack() as undo:  # whatever goes wrong, Ctrl-C included, no half-started server stays behind
        undo.callback(serve.shutdown)
        handle.apply(states)
        undo.pop_all()
    return handle


def _check_folders(states: Sequence[ServingState], served: Sequence[ServingState]) -> None:
    """Raises ModelError, before any replica is told, for what is new and cannot be served or was changed."""
    known = {(name, version) for state in served for name, version in _on_call(state)}
    for state in states:
        for name, version in _on_call(state):
            if (name, version) not in known:
                check_model_folder(Path(version.path))
                layout_of(version)


def _on_call(state: ServingState) -> list[tuple[str, Version]]:
    return [(name, state.versions[name]) for name in state.on_call]


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


def _wait_until_running(
    names: Sequence[str], started: float, deadline_seconds: float, superseded: Callable[[], bool]
) -> bool:
    waiting = list(names)
    while True:
        found = serve.status().applications
        waiting = [name for name in waiting if not _is_running(name, found.get(name))]
        if not waiting:
            return True
        if superseded():
            return False
        waited = time.monotonic() - started
        if waited > deadline_seconds:
            state = found.get(waiting[0])
            seen = "not known to Serve" if state is None else f"{state.status.value}: {_cause(state)}"
            raise DeadlineError(
                f"the server {waiting[0]} was not ready after {waited:.0f} s ({seen})",
                f"an answer within {deadline_seconds:.0f} s",
                "is there a free CPU or GPU for it? Lower the server's share in the profile, or raise deadline_seconds",
            )
        time.sleep(POLL_SECONDS)


def _is_running(name: str, state: ApplicationStatusOverview | None) -> bool:
    if state is not None and state.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
        raise RoleError(
            f"the server {name} did not start: {_cause(state)}",
            "a replica that loads the model",
            "see the serve folder in the run's logs",
        )
    return state is not None and state.status == ApplicationStatus.RUNNING


def _cause(state: ApplicationStatusOverview) -> str:
    messages = [state.message, *(deployment.message for deployment in state.deployments.values())]
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    raised = [line for line in lines if "Error" in line.split(":")[0]]
    return (raised or lines or ["no cause was given"])[-1][:500]
