"""Weights on their way: against the machine's memcpy, against dicts, and against vLLM's own reload from local tmpfs.

*Transport*: from a learner's filled staging buffers to views in 1, 2 and 4 receiving processes, by the shipped
publisher (digest, put, pull). One thread's copy between two warm arrays of the size (of 1 GB at most, repeated) is the
machine's memcpy. The learner's part should not depend on the number of receivers. A dict of NumPy arrays and a dict of
torch tensors (256 each) go beside it, up to 1 GB.

*Engine*: a Qwen2.5-VL of the size on one generator. Ours is everything from tensors in the learner's memory to an
engine that answers with them: gather, put, pull, drain, verify, load, reset (the canary is asked of an engine that is
ready). `ready_from_store` begins with buckets in the store, as vLLM's own begins with files in /dev/shm: it is the one
that the goal is for. Beside it: vLLM's layerwise reload of the same weights from
/dev/shm, and the dicts, loaded by the same reload. Rounds alternate; medians. Extra memory is the peak of the first
update over what was before: private memory of learner and publisher, and the store.

    python benchmarks/weights.py [--sizes 0.1 0.5 1 2 4] [--engine-sizes 0.1 1] [--rounds 5]
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # read when Ray is imported
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # by default 15: the memcpy beside it would have a better place

import numpy as np
import psutil
import ray
from ray._private.internal_api import node_stats
from reporting import report

GOAL_TRANSPORT, GOAL_READY, GOAL_CONSTANT = 0.4, 1.3, 1.25
RECEIVERS = (1, 2, 4)
DICT_ENTRIES = 256
OVER_OWN = ("ready", "ready_from_store", "numpy_dict", "torch_dict")
DEADLINE_SECONDS = 600.0
GB = 10**9
TMPFS = Path("/dev/shm")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def answer(reference: Any) -> Any:
    return ray.get(reference, timeout=DEADLINE_SECONDS)


def start(role: type, *arguments: Any) -> Any:
    """Handle of a plain process of this role."""
    remote: Any = ray.remote(role)
    return remote.options(num_cpus=0).remote(*arguments)


class StagedLearner:
    """Stands where learner rank 0 stands with its staging filled: what is measured begins there."""

    def __init__(self, num_bytes: int, bucket_bytes: int) -> None:
        from residency.training.weight_buckets import Staging

        generator = np.random.default_rng(0)
        self._digester = Staging()
        self._staging = [generator.integers(0, 255, min(bucket_bytes, num_bytes), dtype=np.uint8) for _ in range(2)]
        self._rests = [min(bucket_bytes, num_bytes - start) for start in range(0, num_bytes, bucket_bytes)]

    def publish_weights(self, label: str) -> Iterator[Any]:
        from residency.platform.records import PolicyVersion
        from residency.training.weight_buckets import BucketSpec, TensorSlot

        for number, size in enumerate(self._rests):
            buffer = self._staging[number % 2][:size]
            slot = TensorSlot(name=f"bucket{number}", dtype="uint8", shape=(size,), offset=0, num_bytes=size)
            self._digester.start_digest(buffer)
            yield BucketSpec(slots=(slot,), num_bytes=size)
            yield buffer
        yield PolicyVersion(incarnation=0, step=int(label)), self._digester.digests()


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


class DictLearner:
    """Equal arrays in a dict, as they come out of a ``state_dict``."""

    def __init__(self, num_bytes: int) -> None:
        self._arrays = {str(n): np.full(num_bytes // DICT_ENTRIES // 4, n, np.float32) for n in range(DICT_ENTRIES)}

    def put_dict(self, kind: str) -> list[Any]:
        import torch

        return [ray.put({n: a if kind == "numpy" else torch.from_numpy(a) for n, a in self._arrays.items()})]


class Receiver:
    """A plain process that takes weights."""

    def __init__(self) -> None:
        self._manifest: Any = None
        self._views: list[np.ndarray] = []

    def pull(self, manifest: Any, refs: Sequence[Any]) -> int:
        from residency.actors.rank_buckets import pull_buckets

        self._manifest, self._views = manifest, pull_buckets(manifest, refs, DEADLINE_SECONDS)
        return sum(view.nbytes for view in self._views)

    def verify(self) -> int:
        from residency.training.weight_buckets import unpack_bucket

        return sum(len(unpack_bucket(*each, "")) for each in zip(self._manifest.buckets, self._views, strict=True))

    def forget(self) -> None:
        self._views, self._manifest = [], None

    def take_dict(self, refs: list[Any]) -> int:
        return len(ray.get(refs[0]))


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def memcpy_seconds(num_bytes: int, source: np.ndarray, target: np.ndarray) -> float:
    """One thread's copy of so many bytes; more than the arrays hold are copied in several goes."""

    def copy() -> None:
        for start in range(0, num_bytes, source.nbytes):
            size = min(source.nbytes, num_bytes - start)
            np.copyto(target[:size], source[:size])

    return timed(copy)


def measure_transport(num_bytes: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds of one size; the first rounds touch the store's pages and do not count."""
    from residency.actors.publisher import start_publisher
    from residency.training.weight_buckets import DEFAULT_BUCKET_BYTES

    learner = start(StagedLearner, num_bytes, DEFAULT_BUCKET_BYTES)
    publisher = start_publisher(cpus=0)
    receivers = [start(Receiver) for _ in range(max(RECEIVERS))]
    answer([receiver.forget.remote() for receiver in receivers])
    source = np.random.default_rng(1).integers(0, 255, min(num_bytes, GB), dtype=np.uint8)
    target = source.copy()
    taken: dict[int, list[dict[str, float]]] = {number: [] for number in RECEIVERS}
    copies: list[float] = []
    label = 0
    for turn in range(rounds + 2):
        copies.append(memcpy_seconds(num_bytes, source, target))
        for number in RECEIVERS:
            label += 1
            began = time.perf_counter()
            manifest, refs = answer(publisher.collect.remote([learner], str(label), DEADLINE_SECONDS))
            published = time.perf_counter()
            pulled = answer([receiver.pull.remote(manifest, refs) for receiver in receivers[:number]])
            viewed = time.perf_counter()
            assert pulled == [num_bytes] * number
            answer([receiver.verify.remote() for receiver in receivers[:number]])
            row = {"learner": published - began, "pull": viewed - published, "transport": viewed - began}
            row |= {"verified": time.perf_counter() - began, **manifest.seconds}
            del refs
            answer([receiver.forget.remote() for receiver in receivers])
            if turn >= 2:
                taken[number].append(row)
    memcpy = statistics.median(copies[2:])
    figures: dict[str, Any] = {"gb": num_bytes / GB, "memcpy_gb_s": num_bytes / GB / memcpy, "receivers": {}}
    for number, rows in taken.items():
        seconds = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        ratios = {"ratio": memcpy / seconds["transport"], "ratio_with_verify": memcpy / seconds["verified"]}
        figures["receivers"][number] = {name: round(value, 4) for name, value in {**seconds, **ratios}.items()}
    learner_seconds = [figures["receivers"][number]["learner"] for number in RECEIVERS]
    figures["learner_most_over_least"] = round(max(learner_seconds) / min(learner_seconds), 3)
    for actor in (learner, publisher):
        ray.kill(actor)
    if num_bytes <= GB:
        holder = start(DictLearner, num_bytes)
        for kind in ("numpy", "torch"):

            def by_dict(kind: str = kind) -> None:
                answer(receivers[0].take_dict.remote(answer(holder.put_dict.remote(kind))))

            figures[f"{kind}_dict_ratio"] = round(memcpy / statistics.median(timed(by_dict) for _ in range(3)), 4)
        ray.kill(holder)
    for receiver in receivers:
        ray.kill(receiver)
    say(f"transport {figures}")
    return figures


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
    weights: Any = ray.get(refs[0])
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
        self._node = ray.nodes()[0]
        self.private = self.store = self.both = 0
        self._stop = threading.Event()

    def _look(self) -> tuple[int, int]:
        private = sum((info := each.memory_info()).rss - info.shared for each in self._processes)
        stats: Any = node_stats(self._node["NodeManagerAddress"], self._node["NodeManagerPort"])
        return private, stats.store_stats.object_store_bytes_used

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=float, nargs="*", default=[0.1, 0.5, 1, 2, 4], help="of the transport (GB)")
    parser.add_argument("--engine-sizes", type=float, nargs="*", default=[0.1, 1], help="of the engine's model (GB)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    room = 0.7 * psutil.virtual_memory().available / GB  # two versions lie in the store at once
    sizes = [size for size in arguments.sizes if 2 * size + 2 <= room]
    store = int((2.2 * max([*sizes, *arguments.engine_sizes], default=1.0) + 0.5) * GB)
    with tempfile.TemporaryDirectory(prefix="rbw-", ignore_cleanup_errors=True) as home:
        ray.init(num_cpus=2, object_store_memory=store, include_dashboard=False, log_to_driver=False, _temp_dir=home)
        try:
            transport = [measure_transport(int(size * GB), arguments.rounds) for size in sizes]
            engines = [measure_engine(int(size * GB), arguments.rounds) for size in arguments.engine_sizes]
        finally:
            ray.shutdown()
    ratio = min((each["ratio"] for row in transport for each in row["receivers"].values()), default=0.0)
    constant = max((row["learner_most_over_least"] for row in transport), default=0.0)
    # both begin with the weights in this machine's memory, in the store and in tmpfs; the learner's part is transport
    ready = max((each["over_vllm_reload"]["ready_from_store"] for each in engines), default=0.0)
    within = all(each["extra_memory_mb"]["peak"] <= each["extra_memory_mb"]["allowed"] for each in engines)
    report(
        "weights",
        round(ratio, 3),
        "memcpy seconds over transport seconds, the least of all sizes and receivers",
        GOAL_TRANSPORT,
        ratio >= GOAL_TRANSPORT and constant <= GOAL_CONSTANT and ready <= GOAL_READY and within,
        {
            "transport": transport,
            "engine": engines,
            "engine_ready_over_vllm_reload": {"value": ready, "goal": GOAL_READY},
            "learner_most_over_least": {"value": constant, "goal": GOAL_CONSTANT},
            "extra_memory_within_two_buckets_and_a_copy": within,
            "left_out_for_memory_gb": [size for size in arguments.sizes if size not in sizes],
        },
    )


if __name__ == "__main__":
    main()
