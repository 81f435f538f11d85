"""`residency promote RUN --checkpoint X --registry DIR`: on call, if the boards do not speak against it."""

import getpass
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from residency.platform.cli.options import JsonOption, ProfileOption
from residency.platform.cli.screen import Screen, comparison_table, evaluation_tables, print_json
from residency.platform.errors import BadInputError, ResidencyError
from residency.platform.profiles import Profile, load_profile
from residency.platform.registry.changes import Act, add_canary, add_refused, add_stable, promote_canary
from residency.platform.registry.model_copy import read_model
from residency.platform.registry.registry import Incoming, Registry
from residency.platform.registry.versions import Register, State, Version
from residency.platform.run_folder import RunFolder
from residency.platform.shipped import find

if TYPE_CHECKING:
    from residency.training.promotion import GateDecision

RegistryOption = Annotated[Path, typer.Option("--registry", help="The folder of the model's versions.")]
WhoOption = Annotated[str | None, typer.Option("--who", help="Who does it; by default the user of this machine.")]


class RefusedError(ResidencyError):
    """A checkpoint that did not pass the gate."""


def read_share(text: str) -> float:
    """``10%`` or ``0.1`` as 0.1; raises BadInputError outside (0, 1)."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise BadInputError(
            f"--canary {text!r}", "a share of the sessions above 0 and below 100 %", "write --canary 10%"
        )
    return share


def act_of(who: str | None, reason: str) -> Act:
    return Act(who=who or getpass.getuser(), when=time.time(), reason=reason)


def promote_command(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", help="One of the run's checkpoints: sft, rl, …")],
    registry: RegistryOption,
    canary: Annotated[
        str | None, typer.Option("--canary", help="Share of the sessions that it answers at first: 10%.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the history.")] = "",
    who: WhoOption = None,
    profile: ProfileOption = "laptop",
    as_json: JsonOption = False,
) -> None:
    """Put a checkpoint on call, if it is not significantly worse than what is on call on any of the run's boards.

    The same command without --canary makes a canary of these weights stable.
    """
    share, screen = read_share(canary) if canary is not None else None, Screen()
    folder, versions = RunFolder(run), Registry(registry)
    source = folder.checkpoints / checkpoint
    if not (source / "config.json").is_file():
        there = ", ".join(sorted(path.parent.name for path in folder.checkpoints.glob("*/config.json"))) or "none"
        raise BadInputError(f"{source} is no checkpoint", f"one of the run's: {there}", "name another --checkpoint")
    act, register = act_of(who, reason), versions.read()
    if register.canary is not None:
        version = register.versions[register.canary.version]
        if share is not None or read_model(source).digest != version.model.digest:
            raise BadInputError(
                f"{version.label} is the canary", "one candidate at a time",
                "promote it without --canary, or take it back with `residency rollback`",
            )  # fmt: skip
        after, decision = versions.change(lambda now: promote_canary(now, act)), None
    else:
        on = load_profile(find("profiles", profile))
        with versions.incoming(source) as incoming:
            decision = examine(folder, checkpoint, versions, register, incoming, on, screen)
            after = versions.add(
                incoming,
                lambda now, identity: admitted(
                    now, candidate(identity, incoming, folder, checkpoint, act, decision), share, decision, act
                ),
                register.stable,
            )
    tell(after, decision, as_json, screen, versions)


def candidate(
    identity: str, incoming: Incoming, run: RunFolder, checkpoint: str, act: Act, decision: "GateDecision"
) -> Version:
    """The record of what was examined; its state is set by the change that takes it in."""
    return Version(
        id=identity, state=State.RETIRED, model=incoming.model, run=str(run.path), checkpoint=checkpoint, who=act.who,
        when=act.when, reason=act.reason, evidence=list(decision.evidence),
    )  # fmt: skip


def admitted(now: Register, version: Version, share: float | None, decision: "GateDecision", act: Act) -> Register:
    """The register with the version as stable, canary or refused."""
    if not decision.passed:
        return add_refused(now, version, Act(who=act.who, when=act.when, reason="; ".join(decision.reasons)))
    return add_stable(now, version, act) if share is None else add_canary(now, version, share, act)


def examine(
    run: RunFolder,
    checkpoint: str,
    versions: Registry,
    register: Register,
    incoming: Incoming,
    profile: Profile,
    screen: Screen,
) -> "GateDecision":
    """What the boards say: against what is on call, or for a first version by themselves."""
    from residency.platform.cli.version_boards import Examination, answers_of
    from residency.training.promotion import judge_first, judge_paired

    exam = Examination.of(run)
    if register.stable is not None and register.stable_version().model.digest == incoming.model.digest:
        raise BadInputError(f"these weights are on call, as {register.stable_version().label}", "other weights")
    found = answers_of(
        exam, incoming.folder, incoming.model.digest, versions.answers, trained=checkpoint, profile=profile,
        screen=screen,
    )  # fmt: skip
    if register.stable is None:
        return judge_first(found)
    stable = register.stable_version()
    versions.check(stable)
    screen.say(f"compared with {escape(stable.label)}")
    on_call = answers_of(
        exam, versions.folder_of(stable), stable.model.digest, versions.answers, trained=None, profile=profile,
        screen=screen,
    )  # fmt: skip
    return judge_paired(
        found, on_call, candidate_name=f"{checkpoint} of {run.path.name}", on_call_name=stable.id,
        resamples=exam.recipe.evaluation.bootstrap_resamples,
    )  # fmt: skip


def tell(
    register: Register, decision: "GateDecision | None", as_json: bool, screen: Screen, registry: Registry
) -> None:
    """What came of it; raises RefusedError where the gate stayed shut."""
    assert register.last is not None
    version = register.versions[register.last.version]
    rows = list(decision.evidence) if decision else []
    if as_json:
        print_json(
            {
                "version": version.id, "state": version.state.value, "digest": version.model.digest,
                "reasons": list(decision.reasons) if decision else [], "evidence": rows,
                "stable": register.stable, "canary": register.canary.version if register.canary else None,
            }
        )  # fmt: skip
    elif rows and "difference" in rows[0]:
        screen.console.print(comparison_table(rows))
    else:
        for table in evaluation_tables(rows):
            screen.console.print(table)
    if version.state is State.REFUSED:
        raise RefusedError(
            f"{version.label} is refused: {register.last.reason}", "no significant loss on any board",
            f"the comparison is kept in {registry.register_path}",
        )  # fmt: skip
    share = f", {register.canary.share:.0%} of the sessions" if register.canary else ""
    screen.say(f"[green]{version.state.value}[/] {escape(version.label)}{share}")
