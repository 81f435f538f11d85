"""Every registered benchmark: what a user reads about it, and that it names what is not its format."""

import re
from pathlib import Path

import pytest

from residency.platform.errors import DataError
from residency.platform.records import Family
from residency.synthesis.benchmarks.importing import Benchmark, import_benchmark
from residency.synthesis.importers import BENCHMARKS, FORMATS, list_benchmarks

PUBLISHED = {  # rows that the papers and their hubs count
    "mmmu-med": {"validation": 150, "test": 1752},
    "vqa-rad": {"test": 451, "train": 1793},
    "slake": {"test": 2094, "test-en": 1061, "test-zh": 1033},
    "path-vqa": {"test": 6719},
    "pmc-vqa": {"test_2": 33430, "test_clean": 2000},
    "omni-med-vqa": {"test": 88996},
    "med-xpert-qa": {"test": 2000},
    "pubmed-qa": {"all": 1000, "test": 500, "train": 500},
    "med-qa": {"test": 1273, "dev": 1272, "train": 10178},
    "med-mcqa": {"dev": 4183, "test": 6150, "train": 182822},
    "exam": {"test": None},
}
TEXT_SETS = {"pubmed-qa", "med-qa", "med-mcqa", "exam"}
every_benchmark = pytest.mark.parametrize("benchmark", BENCHMARKS.values(), ids=list(BENCHMARKS))


def test_the_registry_has_each_set_once_under_its_own_name() -> None:
    assert BENCHMARKS.keys() == PUBLISHED.keys()
    assert all(name == benchmark.name for name, benchmark in BENCHMARKS.items())
    assert len({benchmark.title for benchmark in BENCHMARKS.values()}) == len(BENCHMARKS)
    assert not BENCHMARKS.keys() & FORMATS.keys()


@every_benchmark
def test_published_numbers(benchmark: Benchmark) -> None:
    wanted = PUBLISHED[benchmark.name]
    assert {variant: benchmark.published[variant] for variant in wanted} == wanted
    assert benchmark.default_variant == next(iter(wanted))


@every_benchmark
def test_what_a_reader_must_know_is_there(benchmark: Benchmark) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", benchmark.name)
    assert benchmark.licence.strip()
    assert benchmark.files.strip()
    assert benchmark.name == "exam" or re.search(r"arXiv:\d{4}\.\d{5}|doi:10\.\d+", benchmark.source)
    assert benchmark.note.endswith(".")
    assert "\n" not in benchmark.note  # it goes into the card as it is
    assert benchmark.family is (Family.TEXTUAL_REASONING if benchmark.name in TEXT_SETS else Family.MEDICAL_MULTIMODAL)
    line = next(line for line in list_benchmarks() if line.split()[0] == benchmark.name)
    assert benchmark.licence in line
    assert all(f"{n:,}" in line for n in benchmark.published.values() if n)


@every_benchmark
@pytest.mark.parametrize("unrelated", ["nothing", "a text"])
def test_a_folder_of_something_else_is_a_named_fault_and_leaves_nothing(
    benchmark: Benchmark, unrelated: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if unrelated == "a text":
        (source / "README.md").write_text("# Something else\n")
    for variant in benchmark.published:
        with pytest.raises(DataError, match=re.escape(str(source))) as caught:
            import_benchmark(benchmark, source, variant, tmp_path / "out")
        assert caught.value.wanted
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@every_benchmark
def test_a_file_of_something_else_is_a_named_fault(benchmark: Benchmark, tmp_path: Path) -> None:
    for name in ("data.parquet", "data.json", "data.jsonl", "data.csv"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00")
        with pytest.raises(DataError, match=re.escape(str(tmp_path))):
            import_benchmark(benchmark, tmp_path / name, benchmark.default_variant, tmp_path / "out")
        assert not (tmp_path / "out").exists()
