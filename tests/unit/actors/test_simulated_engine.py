"""The simulated engine: same seed, same traces; the time of continuous batching; the protocol that vLLM's keeps too."""

import asyncio
import inspect
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from residency.actors.engine_protocol import Engine
from residency.actors.engine_requests import REQUEST_SCHEMA, MediaShelf
from residency.actors.simulated_answers import SimulatedEngineConfig, load_simulated_config
from residency.actors.simulated_engine import SimulatedEngine
from residency.actors.vllm_engine import VllmEngine
from residency.platform.arrow_tables import SCHEMAS, from_table
from residency.platform.clock import RealClock, SimulatedClock
from residency.platform.errors import DeadlineError, RecipeError, RoleError, WeightUpdateError
from residency.platform.prompts import render_prompt
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PolicyVersion, PromptMode, Split, Trace
from residency.platform.sampling import SamplingConfig
from residency.platform.verifiers.judging import judge

BASE = PolicyVersion(incarnation=0, step=0)
NEXT = PolicyVersion(incarnation=0, step=1)
SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=4096)
ITEM = Item(
    id="a", content_key="c", source="s", split=Split.TRAIN, licence="MIT", cluster="k", question="which?",
    options=("ct", "mr"), answer="mr", answer_kind=AnswerKind.CHOICE, family=Family.MEDICAL_MULTIMODAL,
)  # fmt: skip


def config(**changes: Any) -> SimulatedEngineConfig:
    return load_simulated_config().model_copy(update=changes)


def requests_of(*item_ids: str, num_samples: int = 1, seed: int = 7) -> pa.Table:
    rows = [
        {
            "item_id": item_id, "prompt": render_prompt(ITEM, PromptMode.THINK), "media": ["f" * 64],
            "prompt_mode": "think", "num_samples": num_samples, "seed": seed,
        }
        for item_id in item_ids
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA)


def engine(clock: Any = None, **options: Any) -> SimulatedEngine:
    made: dict[str, Any] = {"config": config(), "version": BASE, "label": "base", "clock": clock or SimulatedClock()}
    made |= options
    return SimulatedEngine(made.pop("config"), **made)


def generated(*item_ids: str, num_samples: int = 1, sampling: SamplingConfig = SAMPLING, **options: Any) -> pa.Table:
    clock = SimulatedClock()
    made = engine(clock, **options)
    return clock.run(made.generate_async(requests_of(*item_ids, num_samples=num_samples), sampling))


def manifest(version: PolicyVersion, *digests: str) -> Any:
    """The fields of a WeightsManifest that an engine without weights reads."""
    return SimpleNamespace(version=version, label="sft", buckets=[SimpleNamespace(digest=each) for each in digests])


def test_both_engines_satisfy_the_protocol() -> None:
    def takes(one: VllmEngine, other: SimulatedEngine) -> tuple[Engine, Engine]:
        return one, other  # pyright checks it

    assert takes
    for name in ("generate", "generate_async", "update_weights", "health", "close"):
        wanted = inspect.signature(getattr(Engine, name))
        for kind in (VllmEngine, SimulatedEngine):
            got = inspect.signature(getattr(kind, name))
            assert [(p.name, p.kind) for p in got.parameters.values()] == [
                (p.name, p.kind) for p in wanted.parameters.values()
            ], (kind, name)
    for attribute in ("version", "label"):
        assert attribute in Engine.__annotations__
        assert hasattr(engine(), attribute)
        assert f"self.{attribute}" in inspect.getsource(VllmEngine.__init__)


def test_the_same_seed_gives_the_same_table_from_any_engine_and_under_any_load() -> None:
    alone = generated("a", num_samples=3)
    crowded = generated("b", "a", "c", num_samples=3, config=config(max_sequences=4), name="other")
    assert alone.schema.equals(SCHEMAS[Trace], check_metadata=True)
    assert crowded.slice(3, 3).drop(["seconds"]).equals(alone.drop(["seconds"]))
    assert generated("b", "a", "c", num_samples=3, config=config(max_sequences=4)).equals(crowded)
    other = generated("a", num_samples=3, seed=1)
    assert not other.column("token_ids").equals(alone.column("token_ids"))


def test_a_trace_holds_what_a_real_one_does() -> None:
    traces = from_table(generated("a", "b", num_samples=2), Trace)
    assert [(t.item_id, t.sample_index) for t in traces] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert len({trace.id for trace in traces}) == 4
    for trace in traces:
        assert len(trace.token_ids) == len(trace.logprobs) == len(trace.policy_versions) > 0
        assert all(value <= 0 for value in trace.logprobs)
        assert set(trace.policy_versions) == {BASE.packed}
        assert len(trace.prompt_token_ids) == 256 + math.ceil(len(render_prompt(ITEM, PromptMode.THINK)) / 4)
        assert trace.seconds > 0


def test_sample_k_is_drawn_with_seed_plus_k() -> None:
    clock = SimulatedClock()
    second = clock.run(engine(clock).generate_async(requests_of("a", seed=8), SAMPLING))
    assert generated("a", num_samples=2).column("token_ids")[1] == second.column("token_ids")[0]


def test_token_ids_lie_between_the_first_and_the_vocabulary() -> None:
    table = generated("a", "b", num_samples=4, config=config(first_token=16, vocabulary=20))
    ids = {
        token for name in ("prompt_token_ids", "token_ids") for row in table.column(name).to_pylist() for token in row
    }
    assert ids == {16, 17, 18, 19}


def test_lengths_have_the_stated_median_and_tail() -> None:
    sampling = replace(SAMPLING, max_new_tokens=100_000)
    lengths = [len(t) for t in generated("a", num_samples=4000, sampling=sampling).column("token_ids").to_pylist()]
    assert np.median(lengths) == pytest.approx(300, rel=0.1)
    assert np.percentile(lengths, 99) == pytest.approx(3000, rel=0.25)


def test_verifiers_find_the_stated_share_right_and_broken_off_answers_empty() -> None:
    traces = from_table(generated("a", num_samples=400, config=config(right_probability=0.3), items=[ITEM]), Trace)
    reward = RewardConfig(weights={"accuracy": 1.0})
    scores = [judge(ITEM, t.id, t.text, PromptMode.THINK, reward).score for t in traces if t.finish_reason == "stop"]
    assert len(scores) > 350
    assert np.mean([score or 0.0 for score in scores]) == pytest.approx(0.3, abs=0.08)
    cut = from_table(generated("a", num_samples=20, sampling=replace(SAMPLING, max_new_tokens=5), items=[ITEM]), Trace)
    assert {(t.finish_reason, len(t.token_ids)) for t in cut} == {("length", 5)}
    assert judge(ITEM, "t", cut[0].text, PromptMode.THINK, reward).score == 0.0


def test_a_step_takes_longer_the_more_sequences_run() -> None:
    """Worked by hand: answers of 10 tokens, steps of 1 s and 0.5 s a sequence, no prefill."""
    same = {"median_tokens": 10, "p99_tokens": 10, "step_seconds": 1.0, "sequence_seconds": 0.5, "prefill_steps": 0}
    one = generated("a", config=config(**same))
    assert one.column("seconds").to_pylist() == pytest.approx([15.0])  # 10 x (1 + 0.5)
    two = generated("a", "b", config=config(**same))
    assert two.column("seconds").to_pylist() == pytest.approx([20.0, 20.0])  # 10 x (1 + 2 x 0.5)
    bounded = generated("a", "b", "c", config=config(**same, max_sequences=2))
    assert bounded.column("seconds").to_pylist() == pytest.approx([20.0, 20.0, 15.0])  # the third after the two
    later = generated("a", config=config(**{**same, "prefill_steps": 4}))
    assert later.column("seconds").to_pylist() == pytest.approx([21.0])


def test_a_request_that_comes_later_joins_the_running_ones() -> None:
    clock = SimulatedClock()
    same = {"median_tokens": 10, "p99_tokens": 10, "step_seconds": 1.0, "sequence_seconds": 0.5, "prefill_steps": 0}
    made = engine(clock, config=config(**same))

    async def join() -> list[float]:
        first = asyncio.create_task(made.generate_async(requests_of("a"), SAMPLING))
        await clock.sleep(7.5)  # five tokens of the first
        assert made.health().running == 1
        second = asyncio.create_task(made.generate_async(requests_of("b"), SAMPLING))
        tables = await asyncio.gather(first, second)
        return [seconds for table in tables for seconds in table.column("seconds").to_pylist()]

    # five more tokens together at 2 s, then five of the second alone at 1.5 s
    assert clock.run(join()) == pytest.approx([17.5, 17.5])


def test_an_update_waits_for_the_running_and_lets_nothing_old_in() -> None:
    clock = SimulatedClock()
    made = engine(clock)

    async def update() -> tuple[list[pa.Table], Any]:
        first = asyncio.create_task(made.generate_async(requests_of("a"), SAMPLING))
        await clock.sleep(0.1)
        new = asyncio.create_task(made.update_weights_async(manifest(NEXT, "d1", "d2"), ["r1", "r2"]))
        await clock.sleep(0.1)
        second = asyncio.create_task(made.generate_async(requests_of("b"), SAMPLING))
        return list(await asyncio.gather(first, second)), await new

    (old, fresh), echo = clock.run(update())
    assert set(old.column("policy_versions").to_pylist()[0]) == {BASE.packed}
    assert set(fresh.column("policy_versions").to_pylist()[0]) == {NEXT.packed}
    assert (echo.version, echo.label, echo.digests) == (NEXT, "sft", ("d1", "d2"))
    assert echo.seconds["load"] == pytest.approx(1.0)
    assert echo.seconds["drain"] > 0
    assert made.version == NEXT
    with pytest.raises(WeightUpdateError, match="1 buckets for weights sft"):
        clock.run(made.update_weights_async(manifest(NEXT, "d1", "d2"), ["r1"]))


# answers of 10 tokens, steps of 1 s and 0.5 s a sequence, four steps of prefill; a weight update takes 1 s
WORKED = {"median_tokens": 10, "p99_tokens": 10, "step_seconds": 1.0, "sequence_seconds": 0.5, "prefill_steps": 4}


def updated_midway(at: float, num_updates: int = 1, **how: bool) -> tuple[list[Trace], list[float], Any]:
    """Traces of an answer of 10 tokens whose weights change after ``at`` seconds, and of a later one; their ends."""
    clock = SimulatedClock()
    made = engine(clock, config=config(**WORKED))

    async def run() -> tuple[list[pa.Table], list[float]]:
        first = asyncio.create_task(made.generate_async(requests_of("a"), SAMPLING))
        for step in range(1, 1 + num_updates):
            await clock.sleep(at)
            version = PolicyVersion(incarnation=0, step=step)
            await made.update_weights_async(manifest(version, "d"), ["r"], **how)
        running = await first
        done = [clock.monotonic()]
        later = await made.generate_async(requests_of("b"), SAMPLING)
        return [running, later], [*done, clock.monotonic()]

    tables, done = clock.run(run())
    return [trace for table in tables for trace in from_table(table, Trace)], done, made


def test_in_flight_each_token_knows_its_version() -> None:
    """Worked by hand: 4 steps of prefill and 10 tokens of 1.5 s each; after 10 s there are two tokens and a bit."""
    (running, later), done, made = updated_midway(10.0, in_flight=True)
    assert running.policy_versions == (BASE.packed,) * 2 + (NEXT.packed,) * 8
    assert done == pytest.approx([14 * 1.5 + 1.0, 2 * 14 * 1.5 + 1.0])  # it stood still for the update
    assert (running.model, later.model) == ("sft", "sft")
    assert set(later.policy_versions) == {NEXT.packed}
    whole = from_table(generated("a", config=config(**WORKED)), Trace)[0]
    assert (running.token_ids, running.logprobs) == (whole.token_ids, whole.logprobs)
    assert running.id != whole.id
    assert made.health().running == 0


def test_in_flight_before_the_first_token_is_as_if_it_had_begun_later() -> None:
    (running, _), _, _ = updated_midway(3.0, in_flight=True)
    assert set(running.policy_versions) == {NEXT.packed}
    clock = SimulatedClock()
    made = engine(clock, config=config(**WORKED), version=NEXT, label="sft")
    fresh = from_table(clock.run(made.generate_async(requests_of("a"), SAMPLING)), Trace)[0]
    assert running.id == fresh.id


def test_a_sequence_may_outlive_several_updates() -> None:
    (running, _), _, _ = updated_midway(9.0, num_updates=2, in_flight=True)
    assert running.policy_versions == (0,) * 2 + (1,) * 6 + (2,) * 2
    assert (
        updated_midway(9.0, num_updates=2, in_flight=True)[0] == updated_midway(9.0, num_updates=2, in_flight=True)[0]
    )


def test_an_update_may_end_what_runs() -> None:
    (running, later), done, _ = updated_midway(10.0, abort=True)
    assert (running.finish_reason, running.policy_versions) == ("abort", (BASE.packed,) * 2)
    assert (len(running.token_ids), len(running.logprobs)) == (2, 2)
    assert judge(ITEM, "t", running.text, PromptMode.THINK, RewardConfig(weights={"accuracy": 1.0})).score == 0.0
    assert (later.finish_reason, set(later.policy_versions)) == ("stop", {NEXT.packed})
    assert done[0] == pytest.approx(11.0)


def test_a_cancelled_call_leaves_the_engine_at_once() -> None:
    clock = SimulatedClock()
    made = engine(clock, config=config(max_sequences=1))

    async def leave() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):  # in simulated time
                await made.generate_async(requests_of("a", "b"), SAMPLING)
        assert (made.health().running, made.health().waiting) == (0, 0)
        assert clock.monotonic() == pytest.approx(0.05)
        return (await made.generate_async(requests_of("c"), SAMPLING)).num_rows

    assert clock.run(leave()) == 1


def test_the_log_has_a_line_for_each_request_before_it_is_begun(tmp_path: Path) -> None:
    clock, log = SimulatedClock(), tmp_path / "asked.jsonl"
    made = engine(clock, log=log, name="e-0", config=config(max_sequences=1))

    async def begin() -> None:
        task = asyncio.create_task(made.generate_async(requests_of("a", "b"), SAMPLING))
        await asyncio.sleep(0)
        assert clock.monotonic() == 0.0
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert [(line["engine"], line["item_id"]) for line in lines] == [("e-0", "a"), ("e-0", "b")]
        await task

    clock.run(begin())


def test_the_synchronous_protocol_on_a_simulated_clock() -> None:
    made: Engine = engine()
    shelf = MediaShelf(None)
    table = made.generate(requests_of("a", num_samples=2), SAMPLING, shelf)
    assert table.drop(["seconds"]).equals(generated("a", num_samples=2).drop(["seconds"]))
    assert made.generate(requests_of(), SAMPLING, shelf).num_rows == 0
    assert made.update_weights(manifest(NEXT), []).version == NEXT
    assert made.health().alive
    made.close()
    made.close()
    assert made.health().cause == "it was closed"
    with pytest.raises(RoleError, match="it was closed"):
        made.generate(requests_of("a"), SAMPLING, shelf)


def test_a_synchronous_call_has_a_deadline() -> None:
    made = engine(RealClock(), deadline_seconds=0.05)
    with pytest.raises(DeadlineError, match="not done generating for 1 prompts after 0 s"):
        made.generate(requests_of("a"), SAMPLING, MediaShelf(None))
    made.close()


def test_whatever_ends_the_engine_reaches_its_caller() -> None:
    broken = replace(ITEM, answer_kind=AnswerKind.NUMBER, answer="no number")
    with pytest.raises(RoleError, match="is dead: DataError"):
        generated("a", items=[broken])


def test_closing_fails_what_waits() -> None:
    clock = SimulatedClock()
    made = engine(clock)

    async def close() -> None:
        task = asyncio.create_task(made.generate_async(requests_of("a"), SAMPLING))
        await clock.sleep(0.1)
        made.close()
        await task

    with pytest.raises(RoleError, match="it was closed"):
        clock.run(close())


def test_a_thousand_engines_share_a_loop_and_hours_pass_at_once() -> None:
    clock = SimulatedClock()
    engines = [engine(clock, seed=number, config=config(step_seconds=5.0)) for number in range(1000)]

    async def work() -> float:
        await asyncio.gather(*(each.generate_async(requests_of("a"), SAMPLING) for each in engines))
        return clock.monotonic()

    first = clock.run(work())
    assert first > 3600


def test_a_thread_takes_no_simulated_time() -> None:
    clock = SimulatedClock()

    async def both() -> tuple[float, float]:
        sleeper = asyncio.create_task(clock.sleep(1.0))
        await asyncio.to_thread(lambda: __import__("time").sleep(0.05))
        after = clock.monotonic()
        await sleeper
        return after, clock.monotonic()

    assert clock.run(both()) == (0.0, 1.0)


def test_a_configuration_with_mistakes_names_them(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text("median_tokens: 0\nspeed: 3\n")
    with pytest.raises(RecipeError, match="median_tokens.*speed: unknown key"):
        load_simulated_config(path)


def test_nothing_shipped_names_it() -> None:
    root = Path(__file__).resolve().parents[3]
    for folder in ("recipes", "profiles", "deploy", "platform", "synthesis", "training"):
        for path in (root / folder).rglob("*"):
            if path.suffix in (".py", ".yaml"):
                assert "simulated_engine" not in path.read_text(), path
                assert "simulated_host" not in path.read_text(), path
