"""The cluster files are what `ray up` accepts, and cluster.yaml has room for what profiles/cluster.yaml asks."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("generators", "teachers", "learners", "verifiers", "synthesizers", "publisher", "server")


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.mark.parametrize("name", ["cluster.yaml", "deploy/on-premises.yaml"])
def test_ray_accepts_it(name: str) -> None:
    prepared = prepare_config(yaml.safe_load((ROOT / name).read_text()))
    prepared["cluster_synced_files"] = []  # which `ray up` fills in from file_mounts
    validate_config(prepared)


def test_ray_would_refuse_half_a_processor(config: dict[str, Any]) -> None:
    config["available_node_types"]["cpu"]["resources"]["CPU"] = 0.5
    with pytest.raises(ValidationError, match=r"0\.5 is not of type 'integer'"):
        validate_config(prepare_config(config))


def test_it_has_a_head_and_three_pools_which_shrink_when_idle(config: dict[str, Any]) -> None:
    types = config["available_node_types"]
    assert config["idle_timeout_minutes"] > 0
    assert config["head_node_type"] == "head"
    assert {each["labels"]["role"] for each in types.values()} == {"head", "cpu", "generator", "learner"}
    workers = [each for name, each in types.items() if name != "head"]
    assert all(each["min_workers"] == 0 < each["max_workers"] for each in workers)
    assert sum(each["max_workers"] for each in workers) <= config["max_workers"]


def test_every_role_of_the_cluster_profile_fits(config: dict[str, Any]) -> None:
    profile = yaml.safe_load((ROOT / "profiles" / "cluster.yaml").read_text())
    types = config["available_node_types"].values()
    left = {
        each["labels"]["role"]: {
            kind: each["resources"].get(kind, 0) * each.get("max_workers", 1) for kind in ("CPU", "GPU")
        }
        for each in types
    }
    assert set(ROLES) <= profile.keys()
    for role in ROLES:
        pool, actors = profile[role]["labels"]["role"], profile[role].get("actors", 1)
        (node,) = [each["resources"] for each in types if each["labels"]["role"] == pool]
        for kind in ("CPU", "GPU"):
            wanted = profile[role].get(f"{kind.lower()}s", 0)
            assert wanted <= node.get(kind, 0), f"one actor of {role} fits on no {pool} node"
            left[pool][kind] -= wanted * actors
    assert all(amount >= 0 for pool in left.values() for amount in pool.values()), left


def test_ray_would_refuse_an_unknown_key_and_a_cluster_without_addresses(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="idle_timeout"):
        validate_config(prepare_config({**config, "idle_timeout": 10}))
    own = yaml.safe_load((ROOT / "deploy" / "on-premises.yaml").read_text())
    del own["provider"]["head_ip"]
    with pytest.raises(Exception, match="head_ip"):
        prepare_config(own)


def test_every_machine_of_ones_own_brings_its_labels_and_the_shared_disk() -> None:
    own = yaml.safe_load((ROOT / "deploy" / "on-premises.yaml").read_text())
    assert "--labels-file=/etc/residency/labels.yaml" in own["worker_start_ray_commands"][-1]
    assert "--num-cpus=0" in own["head_start_ray_commands"][-1]
    assert "--volume /etc/residency:/etc/residency:ro" in own["docker"]["run_options"]
    assert any("mountpoint" in line and "exit 1" in line for line in own["initialization_commands"])


@pytest.mark.parametrize("name", ["cluster.yaml", "deploy/on-premises.yaml"])
def test_nodes_install_the_lock_know_the_runs_and_ask_for_the_token(name: str) -> None:
    config = yaml.safe_load((ROOT / name).read_text())
    assert "--env RESIDENCY_RUNS=/mnt/residency/runs" in config["docker"]["run_options"]
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert "**/.git" in config["rsync_exclude"]
    assert any("requirements/gpu.lock" in line for line in config["setup_commands"])
    starts = [
        line
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for line in config[key]
        if "ray start" in line
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
