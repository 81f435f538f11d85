"""Requests of a pipeline as one call of an engine: what the engine is asked, and whose reply is whose."""

import pyarrow as pa

from residency.platform.arrow_tables import to_table
from residency.platform.cli.stages.pool_teacher import Asked, named, rows_of
from residency.platform.records import AnswerKind, Family, Item, PromptMode, Split, Trace
from residency.synthesis.pipeline.ledger import trace_id
from residency.synthesis.teachers.teacher import TeacherRequest


def asked(row: int, sample: int, temperature: float = 1.0, prompt: str = "p") -> Asked:
    item = Item(
        id=f"item{row:04d}", content_key="k", source="s", split=Split.TRAIN, licence="CC0-1.0", cluster="c",
        question="?", answer="yes", answer_kind=AnswerKind.YES_NO, family=Family.TEXTUAL_REASONING,
    )  # fmt: skip
    request = TeacherRequest(
        key=f"synth/{item.id}/{sample}", item=item, sample=sample, prompt=prompt, prompt_hash="h",
        temperature=temperature, seed=1000 * row + sample, max_tokens=8,
    )  # fmt: skip
    return Asked(request, None)  # type: ignore[arg-type]


def test_an_items_samples_are_one_row_and_others_are_not() -> None:
    batch = [asked(0, 0), asked(0, 1), asked(0, 2), asked(1, 0), asked(1, 2), asked(2, 0), asked(2, 1, prompt="q")]
    table, rows = rows_of(batch)
    assert table.column("num_samples").to_pylist() == [3, 1, 1, 1, 1]
    assert table.column("seed").to_pylist() == [0, 1000, 1002, 2000, 2001]
    assert [one for row in rows for one in row] == batch
    greedy, _ = rows_of([asked(0, 0, 0.0), asked(0, 1, 0.0)])
    assert greedy.column("num_samples").to_pylist() == [1, 1]


def test_traces_get_the_ledgers_ids() -> None:
    batch = [asked(3, 1), asked(3, 2)]
    traces = [
        Trace(
            id="engine's own", item_id="item0003", role="policy", model="m", prompt_mode=PromptMode.THINK,
            prompt_hash="h", seed=3001, sample_index=number, text=f"text {number}",
            finish_reason="stop", token_ids=(1, 2),
        )
        for number in range(2)
    ]  # fmt: skip
    table = named(to_table(traces, Trace), batch)
    assert isinstance(table, pa.Table)
    assert table.column("id").to_pylist() == [trace_id(f"synth/item0003/{n}", f"text {n - 1}") for n in (1, 2)]
    assert table.column("seed").to_pylist() == [3000, 3000]
    assert table.column("sample_index").to_pylist() == [1, 2]
