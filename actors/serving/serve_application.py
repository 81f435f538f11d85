"""The same server for ``serve deploy deploy/serve.yaml`` and KubeRay: Ray Serve calls ``build`` on the cluster."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from ray import serve

from residency.actors.key_guard import key_digest
from residency.actors.server import ServerConfig, build_server
from residency.platform.errors import BadInputError
from residency.platform.profiles import load_profile
from residency.platform.shipped import find
from residency.training.model_folder import check_model_folder

KEY_VARIABLE = "RESIDENCY_API_KEY"


class ServeArguments(BaseModel):
    """``args`` of the application in the Serve file."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model_dir: str
    """The model's folder, at the same place on every node that serves."""
    model_name: str
    """The name that callers ask for."""
    profile: str
    """A shipped profile's name, or a path."""
    max_model_len: int = 4096
    """Prompt and answer (tokens)."""


def build(arguments: ServeArguments) -> serve.Application:
    """The application; the API key comes from the environment (a Kubernetes secret), never from the file."""
    key = os.environ.get(KEY_VARIABLE, "")
    if not key.strip():
        raise BadInputError(
            f"{KEY_VARIABLE} is not set where the application is built",
            "the API key that callers must send",
            "put it into the head's environment from a secret",
        )
    model_dir = Path(arguments.model_dir)
    check_model_folder(model_dir)
    profile = load_profile(find("profiles", arguments.profile))
    config = ServerConfig.from_profile(
        profile,
        model_dir=model_dir,
        model_name=arguments.model_name,
        digest=key_digest(key),
        max_model_len=arguments.max_model_len,
    )
    return build_server(config, profile)
