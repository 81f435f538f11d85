"""A local Ray cluster for one run, or the cluster that is there; chatter goes to files, every wait has a deadline."""

import asyncio
import hashlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from residency.platform.errors import DeadlineError, LostObjectError, ResidencyError, RoleError, StorageError
from residency.platform.profiles import Profile

Result = TypeVar("Result")

QUIET_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_task_events_max_num_task_in_gcs": "10000",  # of 100,000 the head's server would hold 150 MB
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def in_a_job() -> bool:
    """Whether this process is the driver of a Ray Job: it belongs to that cluster, whatever its profile says."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ  # which Ray's job supervisor sets for its driver


def prepare_environment() -> None:
    """Environment of this process and all it starts; must stand before Ray is imported, which reads it then."""
    for name, value in QUIET_ENVIRONMENT.items():
        if not (name == "RAY_AUTH_MODE" and in_a_job()):  # there the cluster has decided
            os.environ.setdefault(name, value)
    tools = str(Path(sys.prefix) / "bin")  # ninja, with which torch loads compiled operators
    if tools not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([tools, os.environ["PATH"]])
    home = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if os.environ.get("RAY_AUTH_MODE") == "token" and not home.is_file() and not in_a_job():
        # Asked for a token and finding none, Ray's server does not start: a private cluster gets one of its own.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def errors_to_file(logs: Path) -> Iterator[None]:
    """Ray prints what its daemons complain of on standard output, which is for ``--json``: into a log file instead."""
    from ray._private import worker  # no public switch: ``log_to_driver`` is for the workers' output only

    shown = worker.print_to_stdstream

    def keep(data: dict[str, Any], ignore_prefix: bool) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "ray-errors.log").open("a") as file:
            file.writelines(f"{line}\n" for line in data["lines"])

    worker.print_to_stdstream = keep
    try:
        yield
    finally:
        worker.print_to_stdstream = shown


def namespace_of(run: Path) -> str:
    """The run's Ray namespace: names of actors in it clash with no other run's, and it tells whose an actor is."""
    return f"residency-{run.name}-{hashlib.sha256(str(run.absolute()).encode()).hexdigest()[:8]}"


@contextmanager
def local_cluster(profile: Profile, logs: Path) -> Iterator[None]:
    """Ray for the run: a private local cluster, or the one that is there (``cluster_cpus`` absent, or in a Ray Job).

    A local cluster's log files are moved to ``logs``, which is in the run's folder, when it ends.
    """
    import ray

    if profile.cluster_cpus is None or in_a_job():
        with errors_to_file(logs):
            ray.init(
                address="auto", namespace=namespace_of(logs.parent), log_to_driver=False, logging_level=logging.ERROR
            )
            try:
                yield
            finally:
                ray.shutdown()
        return
    home = tempfile.mkdtemp(prefix="residency-")  # Ray's socket paths must stay below 108 bytes
    spill = logs.parent / "spill"
    with errors_to_file(logs):
        try:
            shutil.rmtree(spill, ignore_errors=True)  # of a driver that was killed
            ray.init(
                num_cpus=profile.cluster_cpus,
                object_store_memory=profile.object_store_mib * 1024 * 1024,
                object_spilling_directory=str(spill),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=home,
            )
            yield
        finally:
            ray.shutdown()
            shutil.rmtree(spill, ignore_errors=True)
            keep_logs(Path(home), logs)


def keep_logs(home: Path, logs: Path) -> None:
    """Move the log files of a cluster's sessions under ``logs``, while there is room, and remove the cluster's home."""
    with suppress(OSError):  # a full disk is what ended the run: its own error is the one to be told
        for session in home.glob("session_2*/logs"):
            shutil.copytree(session, logs / session.parent.name, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    shutil.rmtree(home, ignore_errors=True)


def put(value: Any) -> Any:
    """A reference to ``value`` in this node's object store, owned by this process; StorageError where it is full."""
    import ray
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError

    try:
        return ray.put(value)
    except (ObjectStoreFullError, OutOfDiskError) as error:
        raise store_full(error) from error


def store_full(error: BaseException) -> StorageError:
    """Of an object that found room neither in the object store nor on the disk that it spills to."""
    return StorageError(
        f"the object store is full, and so is what it spills to: {str(error).strip().splitlines()[0]}",
        "room for what is in flight",
        "free some space, or raise object_store_mib in the profile, and start the same command again: it goes on",
    )


def name_of(reference: Any) -> str:
    """The object's id in hex, as it stands in the run's events."""
    return reference.hex()


def stop_actor(handle: Any) -> None:
    """End an actor that has closed what it held."""
    import ray

    ray.kill(handle)


def first_line(error: BaseException) -> str:
    """Of its message, which Ray's make long."""
    return (str(error).splitlines() or [type(error).__name__])[0]


async def wait_for(awaitable: Awaitable[Result], who: str, what: str, seconds: float) -> Result:
    """The awaited result; DeadlineError names who was late, RoleError who failed and why.

    A ResidencyError raised in the role passes through as it is. LostObjectError where the result, or what the role was
    given by reference, is gone from the object store.
    """
    from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError, RayActorError, RayTaskError

    try:
        return await asyncio.wait_for(awaitable, seconds)
    except (ObjectStoreFullError, OutOfDiskError) as error:
        raise store_full(error) from error
    except RayTaskError as error:  # first: of a role's own DeadlineError it is a TimeoutError too
        cause = error.cause
        if isinstance(cause, ResidencyError):
            raise cause from error
        if isinstance(cause, ObjectStoreFullError | OutOfDiskError):
            raise store_full(cause) from error
        if isinstance(cause, ObjectLostError):
            raise LostObjectError(f"{who} was given an object for {what} that is lost: {first_line(cause)}") from error
        raise RoleError(f"{who} failed in {what}: {type(cause).__name__}: {cause}") from error
    except ObjectLostError as error:
        raise LostObjectError(f"what {who} made in {what} is lost: {first_line(error)}") from error
    except TimeoutError:
        raise DeadlineError(
            f"{who} did not finish {what} within {seconds:.0f} s",
            "an answer before the deadline",
            "look into the run's logs folder, or raise deadline_seconds in the profile",
        ) from None
    except RayActorError as error:
        raise RoleError(
            f"{who} died in {what}: {str(error).splitlines()[0]}", "", "see the run's logs folder"
        ) from error


async def run_task(function: Callable[..., Result], *args: Any, what: str, seconds: float, cpus: float = 0.5) -> Result:
    """Run a pure function in a Ray worker, so that its imports and memory stay out of the driver."""
    import ray

    remote = ray.remote(num_cpus=cpus, max_retries=0)(function)
    return await wait_for(remote.remote(*args), "a worker", what, seconds)
