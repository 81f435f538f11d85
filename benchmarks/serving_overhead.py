"""What the whole path costs above plain `vllm serve`: processor time a request and a streamed chunk, time to first
token. Both servers run all the time; they are asked in turn, so that a machine that slows down slows both."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from serving_load import Timed, chat, closed_loop, encoded
from serving_sides import Side, build_model, our_server, plain_server

GOALS = {"cpu_ratio": 1.25, "first_token_ratio": 1.3}
OURS, PLAIN = "residency", "vllm"


class Measured:
    """One side's rounds."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.whole_ms: list[float] = []  # CPU of a request that is answered whole, one value a round
        self.streamed_ms: list[float] = []
        self.first: list[float] = []
        self.chunks: list[float] = []

    def round(self, requests: int, clients: int, tokens: int, first: int) -> None:
        """As many requests whole and as many streamed; pictures that this server has not seen."""
        whole, _ = self._load([chat(self.side.model, first + n, tokens) for n in range(requests)], clients)
        numbers = range(first + requests, first + 2 * requests)
        streamed, answers = self._load([chat(self.side.model, n, tokens, stream=True) for n in numbers], clients)
        self.whole_ms.append(1000 * whole / requests)
        self.streamed_ms.append(1000 * streamed / requests)
        self.first += [answer.first_token_seconds for answer in answers]
        self.chunks.append(sum(answer.num_chunks for answer in answers) / requests)

    def forget(self) -> None:
        """What was measured so far."""
        for values in (self.whole_ms, self.streamed_ms, self.first, self.chunks):
            values.clear()

    def _load(self, bodies: Sequence[dict[str, Any]], clients: int) -> tuple[float, list[Timed]]:
        """(CPU seconds, answers)"""
        sent, before = encoded(list(bodies)), self.side.tree.cpu_seconds()
        answers = asyncio.run(closed_loop(self.side, sent, clients))
        return self.side.tree.cpu_seconds() - before, answers

    def idle_share(self, seconds: float) -> float:
        """CPUs taken while nobody asks."""
        before = self.side.tree.cpu_seconds()
        time.sleep(seconds)
        return (self.side.tree.cpu_seconds() - before) / seconds

    def summary(self) -> dict[str, float]:
        whole, streamed = statistics.median(self.whole_ms), statistics.median(self.streamed_ms)
        return {
            "cpu_ms_a_request": whole,
            "cpu_ms_a_streamed_request": streamed,
            "cpu_us_a_chunk": 1000 * (streamed - whole) / statistics.median(self.chunks),
            "chunks_a_stream": statistics.median(self.chunks),
            "first_token_ms_p50": 1000 * statistics.median(self.first),
        }


def measure(folder: Path, rounds: int, requests: int, clients: int, tokens: int) -> dict[str, Any]:
    """Medians over the rounds of both sides, their ratios, and whether the goals hold."""
    model = build_model(folder)
    with ExitStack() as stack:
        sides = {
            PLAIN: Measured(stack.enter_context(plain_server(folder, model))),
            OURS: Measured(stack.enter_context(our_server(folder, model))),
        }
        for one in sides.values():  # what is loaded at the first request is no cost of a request
            one.round(max(4, requests // 4), clients, tokens, first=10_000_000)
            one.forget()
        idle = {name: one.idle_share(5.0) for name, one in sides.items()}
        for number in range(rounds):
            names = list(sides)[:: 1 if number % 2 else -1]
            for name in names:
                sides[name].round(requests, clients, tokens, first=2 * requests * number)
    found = {name: one.summary() | {"idle_cpus": idle[name]} for name, one in sides.items()}
    ratios = {
        "cpu_ratio": found[OURS]["cpu_ms_a_request"] / found[PLAIN]["cpu_ms_a_request"],
        "streamed_cpu_ratio": found[OURS]["cpu_ms_a_streamed_request"] / found[PLAIN]["cpu_ms_a_streamed_request"],
        "first_token_ratio": found[OURS]["first_token_ms_p50"] / found[PLAIN]["first_token_ms_p50"],
    }
    holds = all(ratios[name] <= goal for name, goal in GOALS.items())
    work = {"rounds": rounds, "requests": requests, "clients": clients, "tokens": tokens}
    return {"meets": holds, "goals": GOALS, **ratios, **found, "work": work}
