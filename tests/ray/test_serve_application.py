"""The Serve files are what Ray Serve accepts, and their builder refuses what cannot be served. No cluster starts."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from residency.actors.serving.serve_application import KEY_VARIABLE, ServeArguments, build
from residency.actors.serving.server import DEPLOYMENT, peer_application
from residency.actors.serving.starting import applications
from residency.platform.errors import BadInputError
from residency.platform.serving.key_ring import key_digest
from residency.platform.serving.serving_state import parse_state, parse_states

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def serve_file() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "serve.yaml").read_text())


def arguments(**changes: object) -> ServeArguments:
    (application,) = ServeDeploySchema.model_validate(serve_file()).applications
    assert application.import_path == f"{build.__module__}:build"
    assert [deployment.name for deployment in application.deployments] == [DEPLOYMENT]
    assert parse_state(application.deployments[0].user_config).stable == "v1"
    return ServeArguments.model_validate({**application.args, **changes})


def test_the_file_builds_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "res-secret")
    application = build(arguments(profile="laptop"))
    deployment = application._bound_deployment
    assert deployment.name == DEPLOYMENT
    (config,) = deployment.init_args
    assert config.door.key_digest == key_digest("res-secret")
    assert "res-secret" not in repr(config)
    assert deployment._deployment_config.max_ongoing_requests > config.most_in_flight


def test_the_kubernetes_file_serves_the_same() -> None:
    service = yaml.safe_load((DEPLOY / "kuberay" / "rayservice.yaml").read_text())
    served = yaml.safe_load(service["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(served)
    assert served["applications"] == serve_file()["applications"]


def test_without_a_key_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(BadInputError, match=f"{KEY_VARIABLE} is set"):
        build(arguments())


def test_replicas_grow_with_the_load_where_the_profile_says_so() -> None:
    profile = {"name": "p", "server": {"actors": 1, "max_actors": 3}}
    deployment = build(arguments(profile=profile, door={"key_digest": "0" * 64}))._bound_deployment
    scaling = deployment._deployment_config.autoscaling_config
    assert scaling is not None
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 3)


def test_each_model_and_canary_has_an_application_and_the_door_has_the_first() -> None:
    versions = {"v1": {"path": "/a"}, "v2": {"path": "/b"}}
    one = parse_state({"model": "one", "versions": versions, "stable": "v1", "canary": {"version": "v2", "share": 0.1}})
    two = parse_state({"model": "two/x", "versions": versions, "stable": "v2"})
    made = applications([one, two], arguments())
    ServeDeploySchema.model_validate({"applications": made})
    assert [(app["name"], app["route_prefix"]) for app in made] == [
        ("residency", "/"),
        ("residency-one@v2", None),
        ("residency-two-x", None),
    ]
    assert peer_application("one", "v2") == "residency-one@v2"
    held = [app["deployments"][0]["user_config"] for app in made]
    assert list(parse_states(held[0])) == ["one", "two/x"]
    assert (held[1]["stable"], held[1]["canary"]) == ("v2", None)
