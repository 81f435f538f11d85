"""Seconds of one synchronous RL step, against what its work must take, and against TRL's GRPOTrainer.

16 prompts with a picture × 8 answers of exactly 32 tokens, a tiny Qwen2.5-VL in fp32. Each side has a process:

- ours: the RL stage of a run under ``profiles/laptop.yaml``: weights to the generator, sampling, verdicts by the rules,
  batch, forward, backward, optimizer, journal.
- bound: what no order of the same work could go below on these cores: vLLM's own ``LLM.generate`` on the step's
  requests, plus plain PyTorch's forward and backward on the very tensors of our step. The latter is taken twice, as one
  process with two threads and as two processes with one thread each, and the faster one counts.
- trl_vllm: TRL's GRPOTrainer with vLLM colocated, on the same model, prompts, pictures and lengths; it does not run on
  a CPU without the two patches in ``rl_step_trl.py``.
- trl_generate: the same with transformers' generate, printed beside: at this size it is the faster engine.

Rounds of all sides alternate; medians count.

    python benchmarks/rl_step.py [--prompts 16] [--samples 8] [--tokens 32] [--rounds 5] [--only ours,offline,bare]
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rl_step_sides import WARM_UP_STEPS, serve
from rl_step_work import Work, build_work
from side_processes import Sides

GOAL_BOUND, GOAL_TRL = 0.85, 1.5
GROUPS = {
    "ours": ("ours",),
    "offline": ("offline",),
    "bare": ("bare_2_threads", "bare_rank_0", "bare_rank_1"),
    "trl_vllm": ("trl_vllm",),
    "trl_generate": ("trl_generate",),
}
Rounds = dict[str, list[dict[str, Any]]]


def measure(names: list[str], options: argparse.Namespace, folder: Path) -> Rounds:
    results: Rounds = {}
    work = [f"--{name}={getattr(options, name)}" for name in ("prompts", "samples", "tokens", "rounds")]
    with Sides(__file__, names, [f"--folder={folder}", *work]) as sides:
        for _ in range(options.rounds):
            for name in names:
                if name == "bare_rank_1":
                    continue
                pair = ("bare_rank_0", "bare_rank_1") if name == "bare_rank_0" else (name,)
                answers = sides.together(pair)
                shown = "bare_2_processes" if len(pair) > 1 else name
                slowest = max(answers, key=lambda answer: answer.get("train_seconds", answer["seconds"]))
                results.setdefault(shown, []).append(slowest)
    return results


def seconds_of(results: Rounds, side: str, key: str = "seconds") -> float | None:
    """Median over the rounds; None for a side that was left out."""
    return statistics.median(answer[key] for answer in results[side]) if side in results else None


def main() -> None:
    from reporting import report

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(GROUPS), help="sides, by name, for a look at some of them")
    parser.add_argument("--side", help="(internal) be one side")
    parser.add_argument("--folder", type=Path, help="(internal) its work")
    options = parser.parse_args()
    steps = options.rounds + WARM_UP_STEPS + 1
    if options.side:
        serve(options.side, Work(options.folder, options.prompts, options.samples, options.tokens, steps))
        return
    names = [name for group in options.only.split(",") for name in GROUPS[group]]
    with tempfile.TemporaryDirectory(prefix="rs-", ignore_cleanup_errors=True) as name:
        work = Work(Path(name), options.prompts, options.samples, options.tokens, steps)
        build_work(work)
        results = measure(names, options, work.folder)
    report("rl_step", *summarize(results, work, options))


def summarize(
    results: Rounds, work: Work, options: argparse.Namespace
) -> tuple[float, str, float, bool, dict[str, Any]]:
    """What ``report`` takes; a number whose sides were left out is null."""
    step, generate = seconds_of(results, "ours"), seconds_of(results, "offline", "generate_seconds")
    trains = {side: seconds_of(results, side, "train_seconds") for side in ("bare_2_threads", "bare_2_processes")}
    known = {side: seconds for side, seconds in trains.items() if seconds is not None}
    faster = min(known, key=lambda side: known[side], default=None)
    of_bound = None
    if step is not None and generate is not None and faster is not None:
        of_bound = (generate + known[faster]) / step
    rates = {
        side: work.rollouts / seconds
        for side in ("ours", "trl_vllm", "trl_generate")
        if (seconds := seconds_of(results, side)) is not None
    }
    over = {side: rates["ours"] / rate for side, rate in rates.items() if side != "ours" and "ours" in rates}
    meets = of_bound is not None and of_bound >= GOAL_BOUND and over.get("trl_vllm", 0.0) >= GOAL_TRL
    details = {
        "seconds": {"ours": step, "offline": generate, **trains, "faster_training": faster},
        "rollouts_per_second": {side: round(rate, 1) for side, rate in rates.items()},
        "ours_over": {side: round(ratio, 2) for side, ratio in over.items()},
        "goal_over_trl_vllm": GOAL_TRL,
        "tokens_of_a_step": [answer.get("tokens") for answer in results.get("offline", [])],
        "rounds": results,
        "work": {name: getattr(options, name) for name in ("prompts", "samples", "tokens", "rounds")},
    }
    value = round(of_bound, 3) if of_bound is not None else 0.0
    return value, "work-conserving bound over the seconds of our step", GOAL_BOUND, meets, details


if __name__ == "__main__":
    main()
