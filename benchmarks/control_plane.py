"""Groups a second through the whole control plane, with real Ray calls and the journal on, at 8, 64 and 256 generators.

    python benchmarks/control_plane.py [--groups 4096] [--rounds 3] [--groups-per-call 4]

A group of 8 rollouts is admitted, noted as requested (on disk before it is sent), answered by a generator through a Ray
call (4 groups a call; the stages send 64) with its Trace table, written to ``traces/``, answered in the journal, judged
by a verifier, written to ``verdicts/``, judged in the journal. As in the shipped stages 512 rollouts (64 groups) share
a part, an answer's commit and a verifier call. Journal, work queue, pools, run folder, verifier and simulated hosts are
the shipped ones.

Simulated is only the generator's model: tokens, logprobs and texts are drawn, and a step takes a nanosecond, so that no
generator is ever waited for. The generators live in two host actors, whatever their number. Everything else is real:
Ray calls, serialized tables, synced files, the judge's process.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from reporting import report

from residency.actors.engine_requests import REQUEST_SCHEMA
from residency.actors.simulated_answers import load_simulated_config
from residency.platform.arrow_tables import to_table
from residency.platform.journal.journal import Journal
from residency.platform.journal.records import Answered, Judged, Record
from residency.platform.journal.state import Stage
from residency.platform.pool.config import PoolConfig
from residency.platform.pool.member import Member
from residency.platform.pool.pool import Pool
from residency.platform.prompts import render_prompt
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split
from residency.platform.run_folder import RunFolder
from residency.platform.sampling import SamplingConfig
from residency.platform.work_queue import WorkQueue

SIZES = (8, 64, 256)
SINGLE_SIZE = 64  # generators, where each call is one group: tells the cost of a call from that of a group
GOALS = {"groups_per_second": 500, "cpu_growth": 0.2, "wall_growth": 0.2}
ROLLOUTS = 8
BATCH = 512 // ROLLOUTS  # groups of one part, one commit of answers and one verifier call
CALLS_A_GENERATOR = 4  # in flight
HOSTS = 2
SPARE_BATCHES = 4  # under way beyond those that fill all generators: they are being written and judged
DEADLINE_SECONDS = 600
QUICK = {"median_tokens": 30, "p99_tokens": 120, "step_seconds": 1e-9, "sequence_seconds": 0.0}
SAMPLING = SamplingConfig(temperature=1.0, max_new_tokens=128)
MODE = PromptMode.THINK
CACHE = Path(__file__).resolve().parent.parent / ".cache"  # on the disk of the checkout: /tmp may be memory


class MeteredJournal(Journal):
    """The shipped journal, with the seconds of its appends and commits."""

    append_seconds = commit_cpu_seconds = commit_seconds = 0.0
    num_commits = 0

    def append(self, *records: Record) -> int:
        began = time.thread_time()
        target = super().append(*records)
        self.append_seconds += time.thread_time() - began
        return target

    def commit(self) -> int:
        began, began_cpu = time.perf_counter(), time.thread_time()
        synced = super().commit()
        self.commit_seconds += time.perf_counter() - began
        self.commit_cpu_seconds += time.thread_time() - began_cpu
        self.num_commits += 1
        return synced


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One run of one size. CPU is the driver's, all its threads, milliseconds a group; shares are of all of it."""

    groups_per_second: float
    wall_ms: float
    driver_cpu_ms: float
    loop_cpu_ms: float  # of the one thread that the controller runs in
    others_cpu_ms: dict[str, float]  # of the other processes: hosts, verifier, judge, Ray's own
    journal_cpu_share: float
    journal_busy_share: float  # of the wall time: a commit was under way
    part_ms: float  # wall time of writing and syncing traces and verdicts: the loop stands still
    groups_per_commit: float
    in_flight_max: int
    trace_bytes: float


class Plane:
    """One control plane over some generators: what the stages' controller does, for groups without a model."""

    def __init__(self, journal: Journal, run: RunFolder, generators: Pool, verifiers: Pool, items: list[Item]) -> None:
        self.journal, self.run, self.generators, self.verifiers = journal, run, generators, verifiers
        self.queue = WorkQueue(journal)
        self.item_ids = [item.id for item in items]
        self.items_table = to_table(items, Item)
        self.prompts = [render_prompt(item, MODE) for item in items]
        self.reward = RewardConfig()
        self.in_flight = self.in_flight_max = self.trace_bytes = 0
        self.part_seconds = 0.0

    async def live(self, purpose: str, num_batches: int, groups_per_call: int) -> None:
        """So many batches from their admission to their verdicts; enough of them at once to fill every generator."""
        seats = self.generators.config.minimum * CALLS_A_GENERATOR * groups_per_call
        slots = asyncio.Semaphore(-(-seats // BATCH) + SPARE_BATCHES)

        async def one(number: int) -> None:
            async with slots:
                await self.live_batch(purpose, number, groups_per_call)

        async with asyncio.timeout(DEADLINE_SECONDS):
            await asyncio.gather(*(one(number) for number in range(num_batches)))

    async def live_batch(self, purpose: str, number: int, groups_per_call: int) -> None:
        import ray

        keys = [f"{purpose}-{number}/{item_id}" for item_id in self.item_ids]
        self.queue.admit(dict.fromkeys(keys, purpose))
        calls = [
            self.generate(keys[at : at + groups_per_call], at, number) for at in range(0, len(keys), groups_per_call)
        ]
        answers = await asyncio.gather(*calls)
        traces = pa.concat_tables([table for _, table in answers]).combine_chunks()
        name = self.write_part("traces", purpose, number, traces)
        workers = [worker for worker, _ in answers for _ in range(groups_per_call)]
        await self.queue.answer([Answered(key, worker, (name,)) for key, worker in zip(keys, workers, strict=True)])
        self.in_flight -= len(keys)
        self.trace_bytes += traces.nbytes

        traces_ref, table, reward = ray.put(traces), self.items_table, self.reward
        verdicts = await self.verifiers.call(
            lambda member: member.handle.judge.remote(traces_ref, table, reward), what="judging", num_bytes=table.nbytes
        )
        name = self.write_part("verdicts", purpose, number, verdicts)
        scores = verdicts.column("score").to_pylist()
        await self.journal.durable(
            *(Judged(key, tuple(scores[at * ROLLOUTS : (at + 1) * ROLLOUTS]), (name,)) for at, key in enumerate(keys))
        )

    async def generate(self, keys: Sequence[str], first: int, number: int) -> tuple[str, pa.Table]:
        """Who answered, and the Trace table of these groups."""
        rows = range(first, first + len(keys))
        requests = pa.table(
            {
                "item_id": [self.item_ids[row] for row in rows],
                "prompt": [self.prompts[row] for row in rows],
                "media": [[]] * len(keys),
                "prompt_mode": [MODE.value] * len(keys),
                "num_samples": [ROLLOUTS] * len(keys),
                "seed": [number * ROLLOUTS] * len(keys),
            },
            schema=REQUEST_SCHEMA,
        )

        async def ask(member: Member) -> tuple[str, pa.Table]:
            await self.queue.request(keys, member.name)
            self.in_flight += len(keys)
            self.in_flight_max = max(self.in_flight_max, self.in_flight)
            return member.name, await member.handle.generate.remote(requests, SAMPLING)

        return await self.generators.call(ask, what="generating", num_bytes=requests.nbytes)

    def write_part(self, kind: str, purpose: str, number: int, table: pa.Table) -> str:
        began = time.perf_counter()
        name = self.run.write_part(kind, purpose, number, table)
        self.part_seconds += time.perf_counter() - began
        return name


def build_items() -> list[Item]:
    return [
        Item(
            id=f"item-{number:059d}", content_key=f"c-{number}", source="simulated", split=Split.TRAIN, licence="MIT",
            cluster=f"k-{number}", question=f"Sample {number}: how much of the drug was given?",
            answer=f"{number + 1} mg", answer_kind=AnswerKind.NUMBER, family=Family.TEXTUAL_REASONING,
        )
        for number in range(BATCH)
    ]  # fmt: skip


def refuse_trouble(kind: str, **details: Any) -> None:
    """Nothing may die here: a lost worker would be measured as a slow one."""
    if kind in ("worker_lost", "worker_unavailable", "request_refused", "pool_stopped"):
        print(f"{kind}: {details}", file=sys.stderr)
        raise SystemExit(f"{kind} during the measurement: {details.get('cause', details)}")


@asynccontextmanager
async def generator_pool(hosts: Sequence[Any], size: int) -> AsyncIterator[Pool]:
    """A pool of ``size`` generators, as many from each host."""
    from residency.actors.simulated_host import simulated_generators

    handles = iter([each for host in hosts for each in simulated_generators(host, size // len(hosts))])
    config = PoolConfig(
        role="generator", minimum=size, maximum=size, requests_per_worker=CALLS_A_GENERATOR, health_seconds=30.0
    )
    async with Pool(config, lambda _: next(handles), events=refuse_trouble) as pool:
        await pool.ready()
        yield pool


async def measure_once(
    folder: Path, generators: Pool, verifiers: Pool, items: list[Item], groups: int, groups_per_call: int
) -> Measurement:
    """A warm-up of a quarter, then ``groups`` groups in a journal and a run folder of their own."""
    num_batches = -(-groups // BATCH)
    with MeteredJournal.open(folder / "journal") as journal:
        plane = Plane(journal, RunFolder(folder), generators, verifiers, items)
        await plane.live("warm", -(-num_batches // 4), groups_per_call)
        plane.in_flight_max = plane.trace_bytes = 0
        plane.part_seconds = journal.append_seconds = journal.commit_cpu_seconds = journal.commit_seconds = 0.0
        journal.num_commits = 0
        others = cpu_of_others()
        began, began_cpu, began_loop = time.perf_counter(), time.process_time(), time.thread_time()
        await plane.live("rl", num_batches, groups_per_call)
        seconds = time.perf_counter() - began
        cpu_seconds, loop_seconds = time.process_time() - began_cpu, time.thread_time() - began_loop
        others = {name: now - others.get(name, 0.0) for name, now in cpu_of_others().items()}
        check(journal, plane, len(generators.members))
    groups = num_batches * BATCH
    return Measurement(
        groups_per_second=groups / seconds,
        wall_ms=1e3 * seconds / groups,
        driver_cpu_ms=1e3 * cpu_seconds / groups,
        loop_cpu_ms=1e3 * loop_seconds / groups,
        others_cpu_ms={name: 1e3 * used / groups for name, used in others.items() if used > 0},
        journal_cpu_share=(journal.append_seconds + journal.commit_cpu_seconds) / cpu_seconds,
        journal_busy_share=journal.commit_seconds / seconds,
        part_ms=1e3 * plane.part_seconds / groups,
        groups_per_commit=groups / journal.num_commits,
        in_flight_max=plane.in_flight_max,
        trace_bytes=plane.trace_bytes / groups,
    )


def check(journal: Journal, plane: Plane, num_generators: int) -> None:
    """Every group was judged with all its scores, and every generator has answered."""
    keys = journal.state.keys.values()
    scores = [() if each.verdict is None else each.verdict.scores for each in keys if each.stage is Stage.JUDGED]
    whole = sum(len(each) == ROLLOUTS and None not in each for each in scores)
    answered = len({each.worker for each in keys})
    if whole < len(keys) or any(each.asked != 1 for each in keys) or answered < num_generators:
        raise SystemExit(f"{whole} of {len(keys)} groups whole, {answered} of {num_generators} generators answered")


def cpu_of_others() -> dict[str, float]:
    """CPU seconds by now of the processes below this one, by what they are."""
    used: dict[str, float] = defaultdict(float)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # a worker of Ray may end at any moment
            line, times = " ".join(process.cmdline()), process.cpu_times()
            known = ("SimulatedHost", "Verifier", "raylet", "gcs_server")
            name = next((each for each in known if each in line), "judge and others")
            used[name] += times.user + times.system
    return used


async def measure(
    folder: Path, groups: int, rounds: int, groups_per_call: int
) -> tuple[dict[int, list[Measurement]], list[Measurement]]:
    """Every size in every round, so that whatever else the machine does falls on all; then one group a call."""
    import ray

    from residency.actors.simulated_host import start_simulated_host
    from residency.actors.verifier import start_verifier
    from residency.platform.profiles import RoleConfig

    items = build_items()
    engine = load_simulated_config().model_copy(update=QUICK)
    known = ray.put(to_table(items, Item))
    hosts = [
        start_simulated_host(max(SIZES) // HOSTS, engine, items=known, seed=seed, num_cpus=0.1) for seed in range(HOSTS)
    ]
    config = PoolConfig(role="verifier", minimum=1, maximum=1, requests_per_worker=2, start_seconds=120)
    measured: dict[int, list[Measurement]] = {size: [] for size in SIZES}
    singles: list[Measurement] = []
    start = lambda _: start_verifier(placement=RoleConfig(cpus=0.1))  # noqa: E731
    async with Pool(config, start, events=refuse_trouble) as verifiers:
        for number in range(rounds):
            for size in SIZES:
                async with generator_pool(hosts, size) as generators:
                    place = folder / f"{number}-{size}"
                    once = await measure_once(place, generators, verifiers, items, groups, groups_per_call)
                print(f"round {number}, {size} generators: {once}", file=sys.stderr)
                measured[size].append(once)
            async with generator_pool(hosts, SINGLE_SIZE) as generators:
                once = await measure_once(folder / f"{number}-single", generators, verifiers, items, groups // 4, 1)
            print(f"round {number}, one group a call, {SINGLE_SIZE} generators: {once}", file=sys.stderr)
            singles.append(once)
    return measured, singles


def summarize(rounds: Sequence[Measurement]) -> dict[str, Any]:
    """Medians over the rounds."""
    tables = [asdict(one) for one in rounds]
    others = [table.pop("others_cpu_ms") for table in tables]
    medians = {name: round(statistics.median(table[name] for table in tables), 3) for name in tables[0]}
    names = sorted({name for each in others for name in each})
    used = {name: round(statistics.median(each.get(name, 0.0) for each in others), 3) for name in names}
    return {**medians, "others_cpu_ms": used}


def main() -> None:
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--groups", type=int, default=4096, help="groups of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each size; medians are reported")
    parser.add_argument("--groups-per-call", type=int, default=4, help="groups that one generator call answers")
    arguments = parser.parse_args()
    if arguments.groups < 1 or arguments.rounds < 1 or BATCH % max(arguments.groups_per_call, 1):
        parser.error(f"--groups and --rounds are at least 1, --groups-per-call divides {BATCH}")
    CACHE.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as home,  # short: Ray's sockets
        tempfile.TemporaryDirectory(prefix="control-", dir=CACHE) as folder,
    ):
        ray.init(
            num_cpus=2,
            object_store_memory=200 * 2**20,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=str(Path(home) / "r"),
        )
        try:
            measured, singles = asyncio.run(
                measure(Path(folder), arguments.groups, arguments.rounds, arguments.groups_per_call)
            )
        finally:
            ray.shutdown()
    sizes = {size: summarize(rounds) for size, rounds in measured.items()}
    few, many = sizes[min(SIZES)], sizes[max(SIZES)]
    numbers = {
        "groups_per_second": min(size["groups_per_second"] for size in sizes.values()),
        "cpu_growth": round(many["driver_cpu_ms"] / few["driver_cpu_ms"] - 1, 3),
        "wall_growth": round(many["wall_ms"] / few["wall_ms"] - 1, 3),
    }
    holds = {
        name: value >= GOALS[name] if name == "groups_per_second" else value < GOALS[name]
        for name, value in numbers.items()
    }
    report(
        "control_plane",
        numbers["groups_per_second"],
        "groups/s, admitted to judged, the slowest of all sizes",
        GOALS["groups_per_second"],
        all(holds.values()),
        {
            "numbers": numbers,
            "goals": GOALS,
            "holds": holds,
            "sizes": sizes,
            "one_group_a_call": {"generators": SINGLE_SIZE, **summarize(singles)},
            "groups": arguments.groups,
            "rounds": arguments.rounds,
            "rollouts_per_group": ROLLOUTS,
            "groups_per_generator_call": arguments.groups_per_call,
            "groups_per_verifier_call": BATCH,
            "calls_in_flight_per_generator": CALLS_A_GENERATOR,
            "host_actors": HOSTS,
            "cpus": os.cpu_count(),
            "simulated": "the generators' model and its time (a step takes 1 ns); all else is real",
        },
    )


if __name__ == "__main__":
    main()
