"""New weights in an engine: from a learner's memory to an engine that answers with them, against vLLM's own reload."""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import ray
from node_store import store_bytes
from weights_roles import DEADLINE_SECONDS, GB, answer, say, start

OVER_OWN = ("ready", "ready_from_store", "numpy_dict", "torch_dict")
TMPFS = Path("/dev/shm")


class FolderLearner:
    """A learner's tensors in its memory, published by the shipped packing."""

    def __init__(self, folder: str) -> None:
        from residency.training.folder_tensors import folder_tensors
        from residency.training.weight_buckets import Staging

        self._tensors = [(name, tensor.clone()) for name, tensor in folder_tensors(Path(folder))]
        self._staging = Staging()

    def publish_weights(self, label: str) -> Iterator[Any]:
        from residency.platform.records import PolicyVersion
        from residency.training.weight_buckets import plan_buckets, staged

        yield from staged(plan_buckets(self._tensors), self._staging, PolicyVersion(incarnation=0, step=int(label)))

    def put_dict(self, kind: str) -> list[Any]:
        return [ray.put({n: t.numpy() if kind == "numpy" else t for n, t in self._tensors})]


def build_model(folder: Path, num_bytes: int) -> int:
    """A Qwen2.5-VL in fp32 of about this size, by the student's tokenizer and processor; its weights' bytes."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    from residency.training.student import student_config, student_processor
    from residency.training.student_tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["what is seen? a cell on the left, and a nucleus in it."])
    config: Any = student_config(tokenizer)
    text: Any = config.text_config
    text.hidden_size, text.intermediate_size = 1024, 2816
    text.num_attention_heads, text.num_key_value_heads = 16, 8
    config.vision_config.out_hidden_size = 1024
    layer = 4 * (3 * text.hidden_size**2 + 3 * text.hidden_size * text.intermediate_size)
    text.num_hidden_layers = text.max_window_layers = max(1, round(num_bytes / layer))
    text.layer_types = ["full_attention"] * text.num_hidden_layers
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.save_pretrained(folder, max_shard_size="100GB")
    student_processor(tokenizer, 84).save_pretrained(folder)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def reload_own(actor: Any, folder: str) -> float:
    """In the generator's process: vLLM's own layerwise reload from a folder; its seconds."""
    return in_engine(actor, {"weights_path": folder})


def reload_dict(actor: Any, refs: list[Any]) -> float:
    """In the generator's process: get a dict and load it by vLLM's own layerwise reload; seconds of both."""
    import torch

    began = time.perf_counter()
    weights: Any = answer(refs[0])
    tensors = ((n, t if isinstance(t, torch.Tensor) else torch.from_numpy(t)) for n, t in weights.items())
    in_engine(actor, {"weights_iterator": tensors})
    return time.perf_counter() - began


def in_engine(actor: Any, arguments: dict[str, Any]) -> float:
    from concurrent.futures import Future

    engine, done = actor._engine, Future()

    def reload() -> None:
        began = time.perf_counter()
        engine._engine.collective_rpc("reload_weights", kwargs=arguments)
        done.set_result(time.perf_counter() - began)

    engine._tell(reload)
    return done.result(timeout=DEADLINE_SECONDS)


class PeakMemory:
    """The most that processes (private) and the store took at once, over what they had when it was entered."""

    def __init__(self, processes: Sequence[int]) -> None:
        self._processes = [psutil.Process(each) for each in processes]
        self.private = self.store = self.both = 0
        self._stop = threading.Event()

    def _look(self) -> tuple[int, int]:
        private = sum((info := each.memory_info()).rss - info.shared for each in self._processes)
        return private, store_bytes()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            private, store = (now - base for now, base in zip(self._look(), self._base, strict=True))
            self.private, self.store = max(self.private, private), max(self.store, store)
            self.both = max(self.both, private + store)

    def __enter__(self) -> "PeakMemory":
        self._base = self._look()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def measure_engine(wanted_bytes: int, rounds: int) -> dict[str, Any]:
    """Medians of one size of model."""
    from residency.actors.engine_config import EngineConfig
    from residency.actors.generator import start_generator
    from residency.actors.publisher import start_publisher
    from residency.training.weight_buckets import DEFAULT_BUCKET_BYTES

    with tempfile.TemporaryDirectory(prefix="rbw-", dir=TMPFS) as name:
        folder = Path(name)
        num_bytes = build_model(folder, wanted_bytes)
        threads = max(1, len(os.sched_getaffinity(0)))
        config = EngineConfig(
            threads=threads, max_sequences=8, max_model_len=128, max_batch_tokens=512, kv_cache_gib=0.2
        )
        generator = start_generator(folder, config, num_cpus=0)
        learner = start(FolderLearner, str(folder))
        publisher = start_publisher(cpus=0)
        assert answer(generator.health.remote()).alive
        processes = answer([each.__ray_call__.remote(lambda _: os.getpid()) for each in (learner, publisher)])
        rows: list[dict[str, float]] = []

        def ours(label: str) -> tuple[Any, Any]:
            manifest, refs = answer(publisher.collect.remote([learner], label, DEADLINE_SECONDS))
            return manifest, answer(generator.update_weights.remote(manifest, refs))

        with PeakMemory(processes) as peak:
            manifest, _ = ours("1")
        bucket = max(spec.num_bytes for spec in manifest.buckets)
        allowed = 2 * max(bucket, DEFAULT_BUCKET_BYTES) + manifest.num_bytes
        memory = {"private": peak.private, "store": peak.store, "peak": peak.both, "allowed": allowed}
        for turn in range(rounds + 1):
            row: dict[str, float] = {}
            began = time.perf_counter()
            manifest, echo = ours(str(turn + 2))
            row["ready"] = time.perf_counter() - began - echo.seconds["canary"]
            row |= {**manifest.seconds, **echo.seconds}
            row["ready_from_store"] = sum(echo.seconds.values()) - echo.seconds["canary"]
            row["vllm_reload"] = answer(generator.__ray_call__.remote(reload_own, str(folder)))
            for kind in ("numpy", "torch"):
                began = time.perf_counter()
                refs = answer(learner.put_dict.remote(kind))
                answer(generator.__ray_call__.remote(reload_dict, refs))
                row[f"{kind}_dict"] = time.perf_counter() - began
                del refs
            if turn:
                rows.append(row)
        answer(generator.close.remote())
        for actor in (generator, learner, publisher):
            ray.kill(actor)
    seconds = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    own = seconds["vllm_reload"]
    figures: dict[str, Any] = {"gb": round(num_bytes / GB, 3)}
    figures["seconds"] = {name: round(value, 4) for name, value in seconds.items()}
    figures["over_vllm_reload"] = {name: round(seconds[name] / own, 3) for name in OVER_OWN}
    figures["extra_memory_mb"] = {name: round(value / 1e6, 1) for name, value in memory.items()}
    say(f"engine {figures}")
    return figures
