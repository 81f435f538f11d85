"""A cluster that has just been started answers before it can take a job."""

from typing import Any

import pytest

from residency.platform import jobs
from residency.platform.errors import RoleError
from residency.platform.profiles import Profile
from residency.platform.recipe import Recipe

RECIPE = Recipe.model_validate({"name": "a", "data": {"format": "dataset", "source": "/data"}})
NOT_YET = "Request failed with status code 500: No available agent to submit job, please try again later."


class Cluster:
    """Refuses so often before it takes a job."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.pauses: list[float] = []

    def list_jobs(self) -> list[Any]:
        return []

    def submit_job(self, *, submission_id: str, **_: Any) -> str:
        if self.refusals:
            raise RuntimeError(self.refusals.pop(0))
        return submission_id


def submit(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(jobs.time, "sleep", cluster.pauses.append)
    return jobs.submit(cluster, RECIPE, Profile(name="p"), "/runs/first")


def test_a_job_waits_for_a_cluster_that_has_just_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(NOT_YET, NOT_YET)
    assert submit(cluster, monkeypatch) == "first-1"
    assert len(cluster.pauses) == 2


def test_not_for_ever_and_not_for_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RoleError, match="did not take the job: .*disk is full"):
        submit(Cluster("the disk is full"), monkeypatch)
    monkeypatch.setattr(jobs, "START_SECONDS", -1.0)
    with pytest.raises(RoleError, match="No available agent"):
        submit(Cluster(NOT_YET), monkeypatch)
