"""Bespoke Curator and distilabel on the same endpoint, each in an environment of its own under ``.cache/peers/``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parent.parent / ".cache" / "peers"
DEADLINE_SECONDS = 900

# Curator counts tokens with a file that it would fetch; litellm, which it depends on, brings a copy.
CURATOR = """
import json, os, sys, time
url, rows, work = sys.argv[1], int(sys.argv[2]), sys.argv[3]
os.environ.update(CURATOR_CACHE_DIR=work, OPENAI_API_KEY="none", TELEMETRY_ENABLED="0", HF_HUB_OFFLINE="1",
                  CURATOR_DISABLE_RICH_DISPLAY="1")
import litellm
for base, _, files in os.walk(os.path.dirname(litellm.__file__)):
    if any(len(name) == 40 and set(name) <= set("0123456789abcdef") for name in files):
        os.environ["TIKTOKEN_CACHE_DIR"] = base
from bespokelabs import curator
from datasets import Dataset

class Ask(curator.LLM):
    def prompt(self, row):
        return row["question"]
    def parse(self, row, response):
        return {"id": row["id"], "text": response}

limits = {"base_url": url, "max_requests_per_minute": 10**6, "max_tokens_per_minute": 10**9,
          "max_concurrent_requests": 256, "require_all_responses": False}
ask = Ask(model_name="gpt-4o-mini", backend="openai", backend_params=limits, generation_params={"max_tokens": 200})
data = Dataset.from_list([{"id": row, "question": f"Is finding {row} benign?"} for row in range(rows)])
began = time.perf_counter()
answer = ask(data)
seconds = time.perf_counter() - began
print(json.dumps({"rows": len(getattr(answer, "dataset", answer)), "seconds": seconds}))
"""

DISTILABEL = """
import json, os, sys, time
os.environ["HF_HUB_OFFLINE"] = "1"
from distilabel.models.llms import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

if __name__ == "__main__":
    url, rows, work = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    with Pipeline(name="bench", cache_dir=work) as pipeline:
        data = [{"instruction": f"Is finding {row} benign?"} for row in range(rows)]
        load = LoadDataFromDicts(data=data, batch_size=256)
        llm = OpenAILLM(model="local", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 200})
        load >> TextGeneration(llm=llm, input_batch_size=256)
    began = time.perf_counter()
    answer = pipeline.run(use_cache=False)
    seconds = time.perf_counter() - began
    print(json.dumps({"rows": sum(bool(row["generation"]) for row in answer["default"]["train"]), "seconds": seconds}))
"""

NEEDS = {
    "curator": (["bespokelabs-curator==0.1.31"], CURATOR),
    # requests and bs4 are used by it and missing from its dependencies
    "distilabel": (["distilabel==1.5.3", "requests", "beautifulsoup4", "openai"], DISTILABEL),
}


def install(name: str) -> Path:
    """The peer's own Python, installed where it is not there yet."""
    home, python = PEERS / name, PEERS / name / "bin" / "python"
    done = home / ".installed"
    if not done.exists():
        home.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, stdout=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "-q", *NEEDS[name][0]]
        subprocess.run(pip, check=True, stdout=sys.stderr, timeout=DEADLINE_SECONDS)
        done.touch()
    return python


def measure_peer(name: str, url: str, rows: int, work: Path) -> dict[str, Any]:
    """Rows a second of one peer, from its call to its result (imports and installation not counted).

    Where it cannot be installed or does not run, ``missing`` says so in place of a number.
    """
    script = PEERS / f"run_{name}.py"  # under the name of the package it would hide it
    try:
        python = install(name)
        script.write_text(NEEDS[name][1])
        done = subprocess.run(
            [str(python), str(script), url, str(rows), str(work / name)],
            capture_output=True, text=True, timeout=DEADLINE_SECONDS, cwd=work, env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        return {"missing": f"{type(error).__name__}: {error}"[:300]}
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"rows"')]
    if not lines:
        return {"missing": done.stderr[-300:]}
    found = json.loads(lines[-1])
    return {**found, "asked": rows, "rows_per_second": round(found["rows"] / found["seconds"], 1)}
