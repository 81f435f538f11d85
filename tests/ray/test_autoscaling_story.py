"""A run on a cluster that grows and shrinks with its work: nodes come, generators join, nodes go, nothing is lost.

The nodes are raylets of this machine, launched and ended by Ray's own autoscaler (v2). What is checked is read from the
files of the run by code of its own.
"""

import json
import os
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import ray
import yaml

HEAD_ID = "f" * 51 + "00000"  # the id that Ray's provider for one machine gives the head
NUM_REQUESTS, MOST = 24, 3
STORY_SECONDS = 250


def journal_records(run: Path) -> list[tuple[float, list[Any]]]:
    """Every record of a journal with its time, as ``[tag, field, …]``, in order; read by a few lines of its own."""
    records: list[tuple[float, list[Any]]] = []
    for path in sorted((run / "journal").glob("segment-*.log")):
        data, at = path.read_bytes(), 8  # behind the file's magic
        while at < len(data):
            magic, length, _, written = struct.unpack_from("<4sIQd", data, at)
            assert magic == b"RJF1"
            records += [(written, record) for record in msgspec.msgpack.decode(data[at + 28 : at + 28 + length])]
            at += 28 + length
    return records


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


@pytest.fixture(scope="module")
def story(start_head: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one driver on a cluster of one node that may grow to three."""
    folder = tmp_path_factory.mktemp("story")
    ip = ray.util.get_node_ip_address()
    with socket.socket() as probe:  # outside the ports that Ray gives to workers, and known beforehand
        probe.bind((ip, 0))
        port = probe.getsockname()[1]
    node = {"resources": {"CPU": 1, "object_store_memory": 100_000_000}, "node_config": {}}
    config = {
        "cluster_name": "story", "max_workers": MOST - 1, "upscaling_speed": 10.0, "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "disable_node_updaters": True, "disable_launch_config_check": True, "launch_multiple": True,
            "gcs_address": f"{ip}:{port}", "head_node_id": HEAD_ID,
        },
        "available_node_types": {
            "ray.head.default": {**node, "max_workers": 0},
            "worker": {**node, "min_workers": 0, "max_workers": MOST - 1, "labels": {"role": "generator"}},
        },
        "head_node_type": "ray.head.default", "auth": {}, "file_mounts": {},
    }  # fmt: skip
    # of an external provider Ray fills in nothing, and its autoscaler dies of what is absent
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    config |= {f"{name}_commands": [] for name in commands}
    config |= {"cluster_synced_files": []}
    (folder / "cluster.yaml").write_text(yaml.safe_dump(config))
    environment = {
        "RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_NODE_TYPE_NAME": "ray.head.default", "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }  # fmt: skip
    head = start_head(
        environment, "--num-cpus=1", "--object-store-memory=100000000", "--include-dashboard=false",
        f"--autoscaling-config={folder / 'cluster.yaml'}", ip=ip, port=port,
    )  # fmt: skip
    driver = Path(__file__).parent / "pool_driver.py"
    done = subprocess.run(
        [sys.executable, str(driver), str(folder / "run"), head.address, str(NUM_REQUESTS), str(MOST)],
        capture_output=True, text=True, timeout=STORY_SECONDS, check=False, env=dict(os.environ),
    )  # fmt: skip
    monitor = (head.home / "session_latest" / "logs" / "monitor.log").read_text()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:] + monitor[-2000:]
    return folder / "run"


@pytest.mark.timeout(420)
def test_nodes_come_with_the_queue_and_go_when_it_is_empty(story: Path) -> None:
    nodes = [json.loads(line)["nodes"] for line in (story / "nodes.jsonl").read_text().splitlines()]
    assert nodes[0] == 1
    assert max(nodes) == MOST
    assert nodes[-1] == 1, "the driver ends once the nodes have gone"
    empty = events(story, "queue_empty")[0]["t"]
    assert all(left["t"] <= empty for left in events(story, "worker_left")[: MOST - 1]), "idle generators left first"


def test_generators_that_joined_did_their_share(story: Path) -> None:
    joined, (all_joined,) = events(story, "worker_joined"), events(story, "all_joined")
    assert len(joined) == len({each["node"] for each in joined}) == MOST, "one on each node"
    share = Counter(
        record[2] for at, record in journal_records(story) if record[0] == "requested" and at > all_joined["t"]
    )
    assert sum(share.values()) >= NUM_REQUESTS
    assert share.keys() == {each["worker"] for each in joined}
    assert min(share.values()) >= 0.15 * sum(share.values()), share  # alike, each would have a third


def test_each_request_was_answered_once_and_nothing_was_lost(story: Path) -> None:
    records = [record for _, record in journal_records(story)]
    answered = Counter(record[1] for record in records if record[0] == "answered")
    assert sorted(answered) == sorted(record[1] for record in records if record[0] == "admitted")
    assert len(answered) >= 2 * NUM_REQUESTS
    assert set(answered.values()) == {1}
    assert not [record for record in records if record[0] in ("failed", "released")]
    assert not events(story, "worker_lost")
    ids = []
    for path in (story / "traces").glob("part-*.arrow"):
        with pa.memory_map(str(path)) as source:
            ids += pa.ipc.open_file(source).read_all().column("item_id").to_pylist()
    assert sorted(ids) == sorted(answered)
