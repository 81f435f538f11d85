"""Runs as Ray Jobs: submitted under the run's name, followed to their end. `ray job` lists, shows and stops them."""

import asyncio
import logging
import re
import shlex
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from residency.platform.cluster import QUIET_ENVIRONMENT
from residency.platform.errors import BadInputError, RoleError, RunInUseError
from residency.platform.job_package import PROFILE, RECIPE, write_package
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe

RUN = "residency_run"  # a job's metadata: which run it carries out
RUNS_VARIABLE = "RESIDENCY_RUNS"  # on the cluster's nodes: the folder of runs, for those that are given by name
REQUEST_SECONDS = 60.0
LOST_SECONDS = 120.0  # without an answer, after which a cluster counts as lost
QUIET_SECONDS = 120.0  # without a line, after which the job's state is asked for
START_SECONDS = 60.0  # that a cluster which has just begun has until it can take a job
NOT_YET = "No available agent"  # as Ray's dashboard says it
GRACE_SECONDS = 60  # that a stopped job has for ending in good order; Ray's own 3 s are too few for a checkpoint

for chatty in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
    logging.getLogger(chatty).setLevel(logging.WARNING)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Client(JobSubmissionClient):
    """Ray's client, with a deadline for each request."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, timeout=REQUEST_SECONDS, **options)


def connect(address: str) -> Client:
    """A client of the cluster whose dashboard answers at ``address`` (http://host:8265).

    Raises BadInputError for another kind of address or a refused token, RoleError where nothing answers.
    """
    if not re.match(r"https?://", address):
        raise BadInputError(
            f"--address {address}",
            "the address of a cluster's dashboard",
            "for example --address http://127.0.0.1:8265",
        )
    try:
        return Client(address)
    except AuthenticationError as error:
        raise BadInputError(
            f"the cluster at {address} refused the token of this machine",
            "the token that the cluster was started with",
            "put it into ~/.ray/auth_token, or its value into the environment as RAY_AUTH_TOKEN",
        ) from error
    except (OSError, RuntimeError) as error:
        raise RoleError(
            f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}",
            "a cluster's dashboard, reachable from here",
            "is it running? From outside, forward its port: `ray dashboard cluster.yaml`, or `kubectl port-forward`",
        ) from error


def run_place(run: str) -> str:
    """The run's folder for the job's shell: an absolute path as it is, a name below ``$RESIDENCY_RUNS``.

    Raises BadInputError for anything else.
    """
    if PurePosixPath(run).is_absolute():
        return shlex.quote(run)
    if not _NAME.fullmatch(run):
        raise BadInputError(
            f"--run {run}",
            "a name (letters, digits, '-', '_', '.') or an absolute path on the cluster's shared file system",
            f"for example --run {PurePosixPath(run).name or 'my-run'}",
        )
    unset = f"is not set on the head node. Set it to a folder on the shared file system, or give --run /path/{run}"
    return f'"${{{RUNS_VARIABLE}:?{unset}}}"/{run}'


def entrypoint(run: str) -> str:
    """The job's command line; `exec`, so that the shell does not stand between Ray and the driver."""
    return f"exec python -m residency.platform.job_attempts run {RECIPE} --profile {PROFILE} --run {run_place(run)}"


def submit(client: JobSubmissionClient, recipe: Recipe, profile: Profile, run: str) -> str:
    """Uploads the package and starts the run's job; returns its id.

    Raises RunInUseError where a job of this run has not ended, BadInputError for what cannot travel.
    """
    command, jobs = entrypoint(run), client.list_jobs()
    for job in jobs:
        if (job.metadata or {}).get(RUN) == run and not job.status.is_terminal():
            raise in_use(client, run, str(job.submission_id))
    name = re.sub(r"[^A-Za-z0-9_-]", "-", PurePosixPath(run).name)
    numbers = [re.fullmatch(rf"{re.escape(name)}-(\d+)", job.submission_id or "") for job in jobs]
    job_id = f"{name}-{1 + max((int(number[1]) for number in numbers if number), default=0)}"
    deadline = time.monotonic() + START_SECONDS
    with tempfile.TemporaryDirectory(prefix="residency-job-") as folder:
        write_package(Path(folder), recipe, profile)
        quiet = {name: value for name, value in QUIET_ENVIRONMENT.items() if name != "RAY_AUTH_MODE"}
        while True:
            try:
                return client.submit_job(
                    entrypoint=command,
                    submission_id=job_id,
                    metadata={RUN: run},
                    runtime_env={
                        "working_dir": folder,
                        "env_vars": {**quiet, "RAY_JOB_STOP_WAIT_TIME_S": str(GRACE_SECONDS)},
                    },
                )
            except RuntimeError as error:
                if job_id in {job.submission_id for job in client.list_jobs()}:  # somebody was a moment faster
                    raise in_use(client, run, job_id) from error
                if NOT_YET not in str(error) or time.monotonic() > deadline:
                    raise RoleError(
                        f"the cluster did not take the job: {error}",
                        "a cluster whose head runs a dashboard agent, as `ray start --head` starts it",
                        "see dashboard_agent.log on its head; two Rays on one machine need"
                        " --dashboard-agent-listen-port each",
                    ) from error
                time.sleep(1.0)


def in_use(client: JobSubmissionClient, run: str, job_id: str) -> RunInUseError:
    """The refusal of a second job for a run."""
    at = f"--address {client.get_address()}"
    return RunInUseError(
        f"the job {job_id} is at work on the run {run}",
        "one job for a run",
        f"follow it with `ray job logs {job_id} --follow {at}`, stop it with `ray job stop {job_id} {at}`, or give"
        " another name with --run",
    )


class JobLog:
    """What is shown of a job's log: each part once, though every connection gets it from the beginning."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show, self._shown, self._read = show, 0, 0

    def begin(self) -> None:
        """A new connection."""
        self._read = 0

    def take(self, text: str) -> None:
        """The next part of this connection."""
        self._read += len(text)
        if (new := self._read - self._shown) > 0:
            self._show(text[-new:])
            self._shown = self._read


async def follow(
    client: JobSubmissionClient, job_id: str, show: Callable[[str], None], lost_seconds: float = LOST_SECONDS
) -> JobDetails:
    """Shows the job's log as it grows; the job's details once it has ended.

    Goes on after a broken connection; RoleError once the cluster has not answered for ``lost_seconds``.
    """
    log, last_answer = JobLog(show), time.monotonic()
    while True:
        try:
            log.begin()
            tail = client.tail_job_logs(job_id)
            with suppress(TimeoutError):
                while text := await asyncio.wait_for(anext(tail, ""), QUIET_SECONDS):
                    log.take(text)
            details = await asyncio.to_thread(client.get_job_info, job_id)
            last_answer = time.monotonic()
            if details.status.is_terminal():
                return details
        except (OSError, RuntimeError, aiohttp.ClientError) as error:
            if (silent := time.monotonic() - last_answer) > lost_seconds:
                raise RoleError(
                    f"the cluster has not answered for {silent:.0f} s: {str(error).splitlines()[0]}",
                    "the cluster that the job was given to",
                    f"is the job {job_id} still there (`ray job list`)? If the cluster is gone, submit the same command"
                    " to a new one: the run goes on where it was",
                ) from error
        await asyncio.sleep(1.0)
