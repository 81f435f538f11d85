"""Weights on their way: against the machine's memcpy, against dicts, and against vLLM's own reload from local tmpfs.

*Transport*: from a learner's filled staging buffers to views in 1, 2 and 4 receiving processes, by the shipped
publisher (digest, put, pull). One thread's copy between two warm arrays of the size (of 1 GB at most, repeated) is the
machine's memcpy. `fixed` is the same way with as many buckets of next to nothing: what Ray's calls cost whatever they
carry. The learner's part should not depend on the number of receivers. A dict of NumPy arrays and a dict of torch
tensors (256 each) go beside it, up to 1 GB.

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
import tempfile

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # read when Ray is imported
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # by default 15: the memcpy beside it would have a better place

import psutil
import ray
from reporting import report
from weights_engine import measure_engine
from weights_roles import GB
from weights_transport import measure_transport

GOAL_TRANSPORT, GOAL_READY, GOAL_CONSTANT = 0.4, 1.3, 1.25


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
