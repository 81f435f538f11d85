"""The controls that RL must beat: the same seconds spent on more SFT, or on rewards that say nothing."""

from residency.platform.cli.crew import Crew
from residency.platform.cli.stages.rl_stage import train_with_rewards
from residency.platform.cli.stages.sft_stage import continue_sft


async def control_stage(crew: Crew) -> None:
    """Every control that the recipe names, from the SFT checkpoint, for as many seconds as RL took."""
    outcome = dict(crew.run.summary()["rl"])
    seconds, controls = float(outcome["seconds"]), dict[str, object]()
    for control in crew.recipe.rl.controls:
        if crew.has_checkpoint(control):
            controls[control] = {"seconds": seconds, "steps": None}
        elif control == "sft_continued":
            steps = await continue_sft(crew, seconds, crew.recipe.rl.optimizer)
            controls[control] = {"seconds": seconds, "steps": steps}
        else:
            steps_wanted = crew.recipe.rl.steps
            attempt = len(crew.journal.state.opened)  # its seconds are not to be saved by an earlier one's rollouts
            controls[control] = await train_with_rewards(
                crew, control, f"{control}-{attempt}", crew.read_prompts(), steps_wanted, seconds
            )
    crew.run.update_summary(rl=outcome | {"controls": controls})
