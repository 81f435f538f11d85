"""What a verdict costs: by kind on one core, through the isolating pool on two, and on 100,000 texts that mean harm.

Usage: ``python benchmarks/verifiers.py [--verdicts 20000] [--fuzzed 100000]``. Every text and every item differs, so
that remembered results are no help; an item is answered eight times, as in RL, and once, as in an evaluation. The pool
is two verifier actors' own code, each in a process with its judge's process below it: tables of traces and items in,
tables of verdicts out. Beside it the same tables are judged in a bare loop in one process, without any isolation.
"""

import argparse
import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil
import pyarrow as pa
from reporting import report

from residency.platform.arrow_tables import from_table, to_table
from residency.platform.prompts import render_completion
from residency.platform.recipe import RewardConfig
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Trace, Verdict
from residency.platform.verifiers.isolation import IsolatedJudge
from residency.platform.verifiers.judge_request import JudgeLimits, JudgeRequest
from residency.platform.verifiers.judging import judge
from residency.platform.verifiers.rules import check_item, load_libraries

GOALS = {
    AnswerKind.CHOICE: 20_000,
    AnswerKind.YES_NO: 20_000,
    AnswerKind.SHORT: 5_000,
    AnswerKind.NUMBER: 5_000,
    AnswerKind.BOX: None,
    AnswerKind.OPEN: None,
}
GOAL_POOL = 5_000
ROLLOUTS, BATCH_ITEMS = 8, 32
REWARD = RewardConfig()
WORD_LIST = (
    "left right upper lower lobe lung liver kidney pleural effusion nodule mass fracture haemorrhage oedema tumour"
    " cardiomegaly atelectasis pneumothorax consolidation opacity cyst lesion vein artery cortex ventricle benign"
    " malignant acute chronic radiograph ultrasound ct mri contrast axial coronal spine femur skull normal"
)
WORDS = WORD_LIST.split()
UNITS = ("mg", "g", "mm", "cm", "ml", "%", "bpm", "kg")
PIECE_LIST = (
    "<think> </think> <answer> </answer> < think > </ answer> \\boxed{ \\boxed{} } { [ ] [[ ]] ( ) (a) (b) A B. yes no"
    " not neither 是 否 左 右 ct mr 0 1e999 -1e-999 1/0 0.5 ½ 500 mg mcg µg 10^9/l 3-5 [[0,0,1,1]] NaN Infinity null"
    " true 1,000,000 <|im_end|> <|endoftext|> the answer is: final **A** ^ $ % & \\ \\n"
)
PIECES = PIECE_LIST.split(" ")
STRANGE = (
    "\x00\x01\x07\x08\x1b\x7f\u0085\u00a0\u00ad\u0130\u0131\u017f\u200b\u200d\u202e"
    "\u2028\u2066\ufb01\ufeff\uff21\U0001f600\U000e0041\ud800"
)


def phrase(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def item_of(kind: AnswerKind, number: int, rng: random.Random) -> Item:
    """An item unlike any other: its number stands in its words."""
    options: tuple[str, ...] = ()
    match kind:
        case AnswerKind.CHOICE:
            options = tuple(f"{phrase(rng, 2)} {letter}{number}" for letter in "wxyz")
            answer = rng.choice(options)
        case AnswerKind.YES_NO:
            answer = rng.choice(("yes", "no"))
        case AnswerKind.NUMBER:
            answer = f"{number + rng.randint(0, 99) / 100:g} {rng.choice(UNITS)}"
        case AnswerKind.BOX:
            answer = json.dumps([box(rng) for _ in range(rng.randint(1, 3))])
        case AnswerKind.OPEN:
            answer = f"{phrase(rng, 12)} {number}"
        case _:
            answer = f"{phrase(rng, 2)} {number}"
    return Item(
        id=f"{kind.value}/{number}", content_key=str(number), source="benchmark", split=Split.TRAIN, licence="MIT",
        cluster="c", question=f"is there a {phrase(rng, 2)} in image {number}?", options=options, answer=answer,
        answer_kind=kind, family=Family.MEDICAL_MULTIMODAL,
    )  # fmt: skip


def box(rng: random.Random) -> list[float]:
    x, y = rng.randint(0, 499) / 1000, rng.randint(0, 499) / 1000
    return [x, y, x + rng.randint(50, 500) / 1000, y + rng.randint(50, 500) / 1000]


def answer_to(item: Item, rng: random.Random) -> str:
    """An answer as a policy gives it: bare, in a sentence, with a letter, or wrong."""
    other = item_of(item.answer_kind, rng.randint(0, 10**6), rng)
    said = item.answer if rng.random() < 0.5 else rng.choice(item.options or (other.answer,))
    if item.answer_kind is AnswerKind.BOX:
        return said
    letter = f"({'abcd'[item.options.index(said)]}) " if said in item.options and rng.random() < 0.5 else ""
    return rng.choice((said, f"{letter}{said}", f"The answer is {letter}{said}.", f"{said.capitalize()}"))


def records(kind: AnswerKind, count: int, rollouts: int, rng: random.Random) -> list[tuple[Item, str]]:
    """Items with completions of some 60 words of reasoning each, all different."""
    found: list[tuple[Item, str]] = []
    for number in range(count // rollouts):
        item = item_of(kind, number, rng)
        found += [
            (item, render_completion(answer_to(item, rng), PromptMode.THINK, phrase(rng, 60))) for _ in range(rollouts)
        ]
    return found


def rate(kind: AnswerKind, count: int, rollouts: int) -> int:
    """Verdicts a second of one core, in a bare loop."""
    load_libraries({kind})
    rows = records(kind, count, rollouts, random.Random(f"{kind}{rollouts}"))
    began = time.process_time()
    for item, text in rows:
        judge(item, "t", text, PromptMode.THINK, REWARD)
    return round(len(rows) / (time.process_time() - began))


# the pool ---------------------------------------------------------------------------------------------------------


def tables(count: int, seed: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Batches of all kinds: a trace table and its item table."""
    rng = random.Random(seed)
    kinds = list(GOALS)
    number = 0
    for _ in range(count // (BATCH_ITEMS * ROLLOUTS)):
        items: list[Item] = []
        traces: list[Trace] = []
        for _ in range(BATCH_ITEMS):
            number += 1
            item = item_of(kinds[number % len(kinds)], number, rng)
            items.append(item)
            traces += [
                Trace(
                    id=f"{item.id}/{n}", item_id=item.id, role="policy", model="m", prompt_mode=PromptMode.THINK,
                    prompt_hash="p", seed=0, sample_index=n, finish_reason="stop",
                    text=render_completion(answer_to(item, rng), PromptMode.THINK, phrase(rng, 60)),
                )
                for n in range(ROLLOUTS)
            ]  # fmt: skip
        yield to_table(traces, Trace), to_table(items, Item)


def packed(table: pa.Table) -> bytes:
    """The table as it travels between processes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def unpacked(stream: bytes) -> pa.Table:
    return pa.ipc.open_stream(stream).read_all()


def serve(pipe: Connection) -> None:
    """A process with a verifier actor's own code in it: its judge is a further process."""
    from residency.actors.verifier import VerifierActor

    actor = VerifierActor()
    while (task := pipe.recv()) is not None:
        pipe.send(packed(actor.judge(unpacked(task[0]), unpacked(task[1]), REWARD)))
    actor.close()


def cpu_seconds(processes: list[Any]) -> float:
    """What these processes and those below them have computed so far."""
    roots = [psutil.Process(process.pid) for process in processes]
    times = [each.cpu_times() for root in roots for each in (root, *root.children(recursive=True))]
    return sum(spent.user + spent.system for spent in times)


def measure_pool(batches: list[tuple[bytes, bytes]], judges: int) -> dict[str, Any]:
    """Verdicts a second through the pool, each member with one batch at a time.

    The rate by CPU time is what two cores give where nobody else uses them: on a busy machine the two differ.
    """
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes: list[Any] = []
    for _ in range(judges):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs,)))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:  # the first batch starts the judge and loads its libraries
        pipe.send(batches[0])
    for pipe in pipes:
        pipe.recv()
    waiting = list(reversed(batches[1:]))
    answers: list[bytes] = []
    began, began_cpu = time.monotonic(), cpu_seconds(processes)
    for pipe in pipes:
        pipe.send(waiting.pop())
    busy = list(pipes)
    while busy:
        for pipe in wait(busy):
            assert isinstance(pipe, Connection)
            answers.append(pipe.recv())
            if waiting:
                pipe.send(waiting.pop())
            else:
                busy.remove(pipe)
    seconds, cpu = time.monotonic() - began, cpu_seconds(processes) - began_cpu
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join(60)
    counts = Counter[str]()
    for answer in answers:
        counts.update(unpacked(answer).column("status").to_pylist())
    return {
        "verdicts_per_second": round(counts.total() / seconds),
        "by_cpu_time_on_2_cores": round(counts.total() / cpu * 2),
        "verdicts": counts.total(),
        "judges": judges,
        "errors": counts["error"] + counts["timeout"],
    }


def measure_bare(batches: list[tuple[bytes, bytes]]) -> dict[str, int]:
    """The same tables in one process without isolation: what the pool's border costs stands against this."""
    load_libraries(set(GOALS))
    done = 0
    began, began_cpu = time.monotonic(), time.process_time()
    for traces_stream, items_stream in batches:
        items = {item.id: item for item in from_table(unpacked(items_stream), Item)}
        for item in items.values():
            check_item(item)
        traces = unpacked(traces_stream)
        ids, item_ids, texts = (traces.column(name).to_pylist() for name in ("id", "item_id", "text"))
        verdicts = [
            judge(items[item_id], trace_id, text, PromptMode.THINK, REWARD)
            for trace_id, item_id, text in zip(ids, item_ids, texts, strict=True)
        ]
        packed(to_table(verdicts, Verdict))
        done += len(verdicts)
    return {
        "verdicts_per_second": round(done / (time.monotonic() - began)),
        "by_cpu_time_on_1_core": round(done / (time.process_time() - began_cpu)),
    }


# fuzz -------------------------------------------------------------------------------------------------------------


def harmful_text(rng: random.Random, item: Item) -> str:
    """Random characters, nested tags, numbers, control characters, and now and then a huge text."""

    def characters() -> str:
        pick = rng.random()
        if pick < 0.3:
            return chr(rng.randint(0, 0x10FFFF))
        return rng.choice(STRANGE) if pick < 0.5 else chr(rng.randint(32, 126))

    def piece() -> str:
        pick = rng.random()
        if pick < 0.5:
            return rng.choice(PIECES)
        if pick < 0.6:
            return item.answer if rng.random() < 0.5 else rng.choice(item.options or (item.answer,))
        if pick < 0.7:
            number = rng.choice((-1, 1)) * rng.random() * 10.0 ** rng.randint(-320, 308)
            return f"{number:g}{rng.choice(('', ' mg', ' cm'))}"
        if pick < 0.8:
            return phrase(rng, rng.randint(1, 5))
        return "".join(characters() for _ in range(rng.randint(1, 12)))

    glue = rng.choice(("", " ", "\n", ", "))
    body = glue.join(piece() for _ in range(rng.randint(0, 30)))
    pick = rng.random()
    if pick < 0.002:
        body = (piece() or "x") * rng.choice((1_000, 100_000)) + body
    elif pick < 0.004:
        body = rng.choice(("<think>", "\\boxed{", "[", "(", "<answer>", " ", "a ", "1", "no ")) * 200_000 + body
    elif pick < 0.5:
        body = render_completion(body, PromptMode.THINK, piece())
    return body


def fuzz(count: int, seconds_allowed: float) -> dict[str, Any]:
    """Statuses and the longest call of so many harmful texts, all through one isolated judge."""
    rng = random.Random(20_250_529)
    judge_ = IsolatedJudge(JudgeLimits(sample_seconds=seconds_allowed))
    counts, longest, faults = Counter[str](), 0.0, list[str]()
    modes = list(PromptMode)
    began = time.monotonic()
    for first in range(0, count, 2_000):
        requests: list[JudgeRequest] = []
        for number in range(first, min(first + 2_000, count)):
            item = item_of(rng.choice(list(GOALS)), number, rng)
            if rng.random() < 0.2:  # items whose own words are strange, as long as they can be judged at all
                item = replace(item, question=harmful_text(rng, item)[:2000])
            requests.append(
                JudgeRequest(item=item, trace_id=str(number), text=harmful_text(rng, item), mode=rng.choice(modes))
            )
        verdicts = judge_.judge(requests, REWARD)
        for request, verdict in zip(requests, verdicts, strict=True):
            counts[verdict.status.value] += 1
            if verdict.score is None:
                faults.append(f"{request.item.answer_kind.value}: {verdict.evidence[:200]}; {request.text[:100]!r}")
        to_table([replace(verdict, trace_id="t") for verdict in verdicts], Verdict)  # evidence fits into a table
        longest = judge_.longest_seconds
    starts = judge_.num_starts
    judge_.close()
    for fault in faults[:10]:
        print(f"no score: {fault}", file=sys.stderr)
    return {
        "texts": count, **counts, "without_score": len(faults), "judge_starts": starts,
        "limit_seconds": seconds_allowed, "longest_call_seconds": round(longest, 4),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def timed(what: str, measure: Callable[[], Any]) -> Any:
    result = measure()
    print(f"{what}: {result}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Measure all three and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verdicts", type=int, default=20_000, help="verdicts of each kind, and through the pool")
    parser.add_argument("--fuzzed", type=int, default=100_000, help="harmful texts")
    arguments = parser.parse_args()
    kinds: dict[str, Any] = {}
    meets = True
    for kind, goal in GOALS.items():
        eight, once = (
            timed(f"{kind.value}, {n} answers an item", lambda k=kind, n=n: rate(k, arguments.verdicts, n))
            for n in (ROLLOUTS, 1)
        )
        kinds[kind.value] = {"answers_8": eight, "answers_1": once, "goal": goal}
        meets = meets and (goal is None or min(eight, once) >= goal)
    batches = [(packed(traces), packed(items)) for traces, items in tables(arguments.verdicts, seed=1)]
    bare = timed("bare loop, tables in and out", lambda: measure_bare(batches))
    pool = timed("isolating pool of 2", lambda: measure_pool(batches, 2))
    fuzzed = timed("fuzz", lambda: fuzz(arguments.fuzzed, JudgeLimits().sample_seconds))
    meets = meets and pool["verdicts_per_second"] >= GOAL_POOL and not pool["errors"]
    meets = meets and not fuzzed["without_score"] and fuzzed["longest_call_seconds"] < fuzzed["limit_seconds"]
    report(
        "verifiers",
        pool["verdicts_per_second"],
        "verdicts/s, isolated, on 2 cores",
        GOAL_POOL,
        meets,
        {
            "per_core_by_kind": kinds,
            "pool": pool,
            "bare_loop": bare,
            "fuzz": fuzzed,
        },
    )


if __name__ == "__main__":
    main()
