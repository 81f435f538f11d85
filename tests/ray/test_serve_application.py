"""The Serve file is one that Ray Serve accepts, and its builder refuses what cannot be served. No cluster starts."""

from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from residency.actors.key_guard import key_digest
from residency.actors.serve_application import KEY_VARIABLE, ServeArguments, build
from residency.platform.errors import BadInputError, ModelError

FILE = Path(__file__).resolve().parents[2] / "deploy" / "serve.yaml"


def arguments(**changes: object) -> ServeArguments:
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(FILE.read_text())).applications
    assert application.import_path == f"{build.__module__}:build"
    return ServeArguments.model_validate({**application.args, **changes})


def test_the_file_builds_a_deployment(tiny_student_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "res-secret")
    application = build(arguments(model_dir=str(tiny_student_dir), profile="laptop"))
    deployment = application._bound_deployment
    assert deployment.name == "model"
    (config,) = deployment.init_args
    assert config.digest == key_digest("res-secret")
    assert "res-secret" not in repr(config)


def test_without_a_key_nothing_is_built(tiny_student_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(BadInputError, match=f"{KEY_VARIABLE} is not set"):
        build(arguments(model_dir=str(tiny_student_dir)))


def test_a_folder_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "res-secret")
    with pytest.raises(ModelError, match="/models/promoted does not exist"):
        build(arguments())
