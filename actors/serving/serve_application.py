"""The builder that a Serve file names: Ray Serve calls ``build`` on the cluster, for ``residency serve`` as for
``serve deploy deploy/serve.yaml`` and KubeRay. What is on call comes apart from it, as ``user_config``."""

import os
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from residency.actors.serving.engine_settings import ServerConfig
from residency.actors.serving.server import build_server
from residency.platform.errors import BadInputError
from residency.platform.profiles import Profile, load_profile
from residency.platform.serving.door_config import DoorConfig
from residency.platform.serving.key_ring import key_digest
from residency.platform.shipped import find

KEY_VARIABLE = "RESIDENCY_API_KEY"


class ServeArguments(BaseModel):
    """``args`` of the application in the Serve file."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    profile: str | dict[str, Any]
    """A shipped profile's name, a path, or a whole profile."""
    max_model_len: int = 4096
    """Prompt and answer (tokens)."""
    door: dict[str, Any] = {}
    """Limits, keys and folders; see docs/serving.md."""


def build(arguments: ServeArguments) -> serve.Application:
    """The application. Without a key file the one API key comes from the environment (a Kubernetes secret)."""
    door = dict(arguments.door)
    if "keys_file" not in door and "key_digest" not in door:
        key = os.environ.get(KEY_VARIABLE, "")
        if not key.strip():
            raise BadInputError(
                f"neither door.keys_file nor {KEY_VARIABLE} is set where the application is built",
                "the API key that callers must send, or a file of keys",
                "put it into the head's environment from a secret",
            )
        door["key_digest"] = key_digest(key)
    given = arguments.profile
    profile = Profile.model_validate(given) if isinstance(given, dict) else load_profile(find("profiles", given))
    config = ServerConfig.from_profile(
        profile, door=DoorConfig.model_validate(door), max_model_len=arguments.max_model_len
    )
    return build_server(config, profile)
