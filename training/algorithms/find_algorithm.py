"""From the name in ``rl.algorithm`` to the algorithm."""

import functools
import importlib

from residency.platform.errors import RecipeError
from residency.training.algorithms.algorithm import Algorithm
from residency.training.algorithms.dapo import Dapo
from residency.training.algorithms.dr_grpo import DrGrpo
from residency.training.algorithms.grpo import Grpo
from residency.training.algorithms.rloo import Rloo

ALGORITHMS: dict[str, type[Algorithm]] = {"grpo": Grpo, "dapo": Dapo, "dr_grpo": DrGrpo, "rloo": Rloo}


@functools.cache
def find_algorithm(name: str) -> Algorithm:
    """One of ours, or the user's own class by ``module:Class``. RecipeError where there is none, or it lacks a hook."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]()
    module, separator, class_name = name.partition(":")
    if not separator:
        raise RecipeError(f"rl.algorithm is {name!r}", f"one of {', '.join(ALGORITHMS)}, or module:Class")
    try:
        algorithm = getattr(importlib.import_module(module), class_name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise RecipeError(
            f"rl.algorithm {name!r} cannot be made: {error}",
            "a module on the path with a class that takes no arguments",
            "put its folder on PYTHONPATH, on every node",
        ) from error
    lacking = [hook for hook in ("advantages", "loss") if not callable(getattr(algorithm, hook, None))]
    if lacking:
        raise RecipeError(f"rl.algorithm {name!r} has no {' and no '.join(lacking)}", "the hooks advantages and loss")
    return algorithm
