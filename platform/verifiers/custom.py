"""A user's own verifier, named `module:function`: found, loaded, called, and its answer made a verdict.

Nothing here guards against what the function does; that is ``isolation``'s part.
"""

import ast
import asyncio
import hashlib
import importlib
import importlib.util
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, SupportsFloat

from residency.platform.errors import RoleError
from residency.platform.recipe import RewardConfig
from residency.platform.records import Status, Verdict
from residency.platform.verifiers.composition import compose
from residency.platform.verifiers.format_rule import format_fault
from residency.platform.verifiers.judge_request import JudgeRequest
from residency.platform.verifiers.trl_adapter import trl_arguments
from residency.platform.verifiers.verl_adapter import verl_arguments, verl_score

ANSWERS = "a Verdict, a number, or a mapping of parts to numbers with `accuracy` among them"


def module_spec(module: str) -> ModuleSpec | None:
    """Where a dotted module would be loaded from; imports nothing, not even the packages above it."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)
    except ValueError:  # a module that was never loaded from anywhere, such as __main__
        return None
    dotted = first
    for name in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        dotted = f"{dotted}.{name}"
        spec = PathFinder.find_spec(dotted, list(spec.submodule_search_locations))
    return spec


def may_define(source: str, name: str) -> bool:
    """Whether a module's text could define the name (a star import or a `__getattr__` could define any)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name in (name, "__getattr__"):
                return True
        elif isinstance(node, ast.alias):
            if (node.asname or node.name.partition(".")[0]) in (name, "*"):
                return True
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return True
    return False


def why_not_found(verifier: str) -> str | None:
    """Why `module:function` cannot be loaded, as far as it shows without running any of it; None where it may."""
    module, _, name = verifier.partition(":")
    spec = None if module == "__main__" else module_spec(module)  # in a judge's process that is another program
    if spec is None:
        return f"there is no module {module!r} on the path"
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    try:
        found = may_define(Path(spec.origin).read_text(), name)
    except SyntaxError as error:
        return f"{spec.origin} is no Python: {error.msg} in line {error.lineno}"
    return None if found else f"{spec.origin} defines no {name!r}"


def load_function(verifier: str) -> Callable[..., Any]:
    """The function, its module imported; raises whatever the import raises, and RoleError for no callable."""
    module, _, name = verifier.partition(":")
    function = getattr(importlib.import_module(module), name)
    if not callable(function):
        raise RoleError(f"{verifier} is {type(function).__name__}", "a function")
    return function


def version_of(function: Callable[..., Any]) -> str:
    """Names the file that the function stands in by its content: a changed verifier is another version."""
    try:
        path = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # an object with __call__, or built in
        path = inspect.getsourcefile(type(function)) if type(function).__module__ != "builtins" else None
    if path is None or not Path(path).is_file():
        return "unknown"
    return "sha256:" + hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def number(value: Any, what: str, low: float = 0.0, high: float = 1.0) -> float:
    """A part's value brought from [low, high] to 0–1; raises RoleError for what is no number of that range."""
    if isinstance(value, str | bytes) or not isinstance(value, SupportsFloat):
        raise RoleError(f"{what} is {type(value).__name__}", "a number")
    as_float = float(value)
    if not math.isfinite(as_float) or not low <= as_float <= high:
        raise RoleError(
            f"{what} is {as_float:g}", f"{low:g} to {high:g}", "say what it returns in rl.reward.score_range"
        )
    return (as_float - low) / (high - low)


def checked(verdict: Verdict, request: JudgeRequest) -> Verdict:
    """The user's own verdict under the trace's id; raises RoleError where it breaks the contract of its status."""
    status = Status(verdict.status)
    if status in (Status.ERROR, Status.TIMEOUT):
        raise RoleError(f"the verifier itself says {status.value}: {verdict.evidence}")
    score = number(verdict.score, "the verdict's score")
    parts = {str(name): number(value, f"part {name!r}") for name, value in verdict.parts.items()}
    return Verdict(
        trace_id=request.trace_id,
        status=status,
        score=score,
        parts={"accuracy": 0.0 if status is Status.ABSTAINED else score, **parts},
        evidence=str(verdict.evidence),
        verifier=str(verdict.verifier),
        verifier_version=str(verdict.verifier_version),
    )


def verdict_of(answer: Any, request: JudgeRequest, reward: RewardConfig, version: str, evidence: str = "") -> Verdict:
    """What the function returned as a verdict: a Verdict stands as it is, a number is the accuracy, parts are parts.

    The part `format` is ours unless the function gives one. Raises RoleError for an answer of another form.
    """
    if isinstance(answer, Verdict):
        return checked(answer, request)
    if answer is None:
        raise RoleError("the verifier returned None: it does not apply to this sample", "a score for every sample")
    fault = format_fault(request.text, request.mode)
    parts = {"format": 0.0 if fault else 1.0}
    if isinstance(answer, Mapping):
        if "accuracy" not in answer:
            raise RoleError(f"the verifier returned parts {sorted(map(str, answer))[:8]}", ANSWERS)
        parts |= {str(name): number(value, f"part {name!r}") for name, value in answer.items()}
    else:
        parts["accuracy"] = number(answer, "the verifier's score", *reward.score_range)
    score, parts, note = compose(parts, request.text, reward)
    said = f"accuracy {parts['accuracy']:g}" + (f"; {evidence}" if evidence else "")
    return Verdict(
        trace_id=request.trace_id,
        status=Status.SCORED,
        score=score,
        parts=parts,
        evidence=f"{said}; {'format ok' if fault is None else 'format: ' + fault}{note}",
        verifier=reward.verifier or "",
        verifier_version=version,
    )


def finished(answer: Any) -> Any:
    """The answer itself; what an `async def` returned is run to its end."""
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


def judge_one(function: Callable[..., Any], version: str, request: JudgeRequest, reward: RewardConfig) -> Verdict:
    """One call for one sample, in our own interface or verl's."""
    if reward.interface == "verl":
        answer, evidence = verl_score(finished(function(**verl_arguments(request))))
        return verdict_of(answer, request, reward, version, evidence)
    return verdict_of(finished(function(request.item, request.text, request.mode)), request, reward, version)


def answers_to_all(function: Callable[..., Any], requests: Sequence[JudgeRequest], reward: RewardConfig) -> list[Any]:
    """One call of a TRL function for all samples; raises RoleError where it does not return one score for each."""
    answers = finished(function(**trl_arguments(requests, as_chat=reward.interface == "trl_chat")))
    if isinstance(answers, str | bytes | Mapping) or not hasattr(answers, "__iter__"):
        raise RoleError(f"{reward.verifier} returned {type(answers).__name__}", "a list of scores, one a completion")
    listed = list(answers)
    if len(listed) != len(requests):
        raise RoleError(f"{reward.verifier} returned {len(listed)} scores for {len(requests)} completions", "one each")
    return listed
