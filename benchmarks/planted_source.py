"""A source as somebody would download it, with duplicates and leaks planted: rows, picture files, and the truth about
them.

``items`` rows in random order: one seventh cases without a picture, the rest some twenty questions a picture; 5 % are
copies, half of rows of the same file and half of rows of a benchmark that lies beside it. Copies are of six kinds
(``KINDS``).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from planted_pictures import copied, draw
from planted_questions import ANSWERS, Fact, ask, case_fact, phrasings, picture_facts, rephrased, written_otherwise

KINDS = ("exact", "retyped", "copied picture", "rephrased", "copied picture, rephrased", "other answer")
SHARES = (0.22, 0.15, 0.25, 0.2, 0.15, 0.03)
PLANTED = 0.05
QUESTIONS_A_PICTURE = 17
CASES = 1 / 7
BENCHMARK = 0.05  # of the items


@dataclass(frozen=True, slots=True)
class Original:
    key: str
    picture: int | None
    fact: Fact
    question: str


@dataclass(frozen=True, slots=True)
class Planted:
    """What a copy's key stands for: the original's key, where that lies, and how the copy was made."""

    original: str
    side: str  # data | benchmark
    kind: str


@dataclass(frozen=True, slots=True)
class Source:
    data: Path
    benchmark: Path
    truth: dict[str, Planted]
    pictures: int


def write_source(folder: Path, items: int, seed: int) -> Source:
    """Write ``data.jsonl`` and ``benchmark.jsonl`` with their pictures; returns the truth about every planted copy."""
    folder.mkdir(parents=True)
    copies = round(items * PLANTED)
    pictures = Pictures(folder, seed)
    rng = np.random.default_rng((seed, 9))
    sizes = {"benchmark": round(items * BENCHMARK), "data": items - copies}
    chosen = {side: set(rng.choice(size, copies // 2, replace=False).tolist()) for side, size in sizes.items()}
    truth: dict[str, Planted] = {}
    lines: dict[str, list[bytes]] = {"data": [], "benchmark": []}
    for side, size in sizes.items():
        for position, original in enumerate(originals(side, size, seed, pictures)):
            lines[side].append(_line(original.key, original.question, original.fact.answer, pictures.file(original)))
            if position in chosen[side]:
                kind = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
                if original.picture is None and "picture" in kind:
                    kind = "rephrased"
                key = f"copy-{side}-{position}"
                truth[key] = Planted(original.key, side, kind)
                lines["data"].append(_copy(key, original, kind, rng, seed, pictures))
    for side, rows in lines.items():
        with (folder / f"{side}.jsonl").open("wb") as file:
            file.writelines(rows[at] for at in rng.permutation(len(rows)).tolist())
    return Source(folder / "data.jsonl", folder / "benchmark.jsonl", truth, pictures.drawn)


class Pictures:
    """Files of drawn pictures: the originals by number, a copy under a name of its own."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed, self.drawn = folder, seed, 0

    def new(self) -> int:
        number = self.drawn
        self.drawn += 1
        path = self.folder / self.name(number)
        path.parent.mkdir(exist_ok=True)
        draw(number, self.seed).save(path, compress_level=1)
        return number

    def name(self, number: int) -> str:
        return f"{number // 1000:04}/{number}.png"

    def file(self, original: Original) -> str | None:
        return None if original.picture is None else self.name(original.picture)

    def copy(self, number: int, key: str, rng: np.random.Generator) -> str:
        name = f"{number // 1000:04}/{key}.png"
        copied(draw(number, self.seed), rng).save(self.folder / name, compress_level=1)
        return name


def originals(side: str, size: int, seed: int, pictures: Pictures) -> Iterator[Original]:
    """All different: of a picture each fact once, of the cases each drawn anew until it is new."""
    rng = np.random.default_rng((seed, size, 3))
    cases, seen = round(size * CASES), set()
    for number in range(cases):
        fact = case_fact(rng)
        while fact.words in seen:
            fact = case_fact(rng)
        seen.add(fact.words)
        yield Original(f"{side}-case-{number}", None, fact, _asked(fact, rng, seed))
    left = size - cases
    while left:
        picture = pictures.new()
        for place, fact in enumerate(picture_facts(rng, min(left, QUESTIONS_A_PICTURE))):
            yield Original(f"{side}-{picture}-{place}", picture, fact, _asked(fact, rng, seed))
            left -= 1


def _asked(fact: Fact, rng: np.random.Generator, seed: int) -> str:
    choices = phrasings(fact.kind, seed)
    return ask(fact, choices[int(rng.integers(len(choices)))])


def _copy(key: str, original: Original, kind: str, rng: np.random.Generator, seed: int, pictures: Pictures) -> bytes:
    question, answer, file = original.question, original.fact.answer, pictures.file(original)
    if kind == "retyped":
        question = written_otherwise(question, rng)
    if "rephrased" in kind:
        question = rephrased(original.fact, question, rng, seed)
    if "picture" in kind and original.picture is not None:
        file = pictures.copy(original.picture, key, rng)
    if kind == "other answer":
        others = [each for each in ANSWERS.get(original.fact.kind, ANSWERS["disease"]) if each != answer]
        answer = others[int(rng.integers(len(others)))]
    return _line(key, question, answer, file)


def _line(key: str, question: str, answer: str, file: str | None) -> bytes:
    row = {"id": key, "question": question, "answer": answer} | ({"image": file} if file else {})
    return json.dumps(row).encode() + b"\n"
