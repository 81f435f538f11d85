"""The Kubernetes manifests are what the KubeRay operator takes; the image holds both sides of the package's links."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kuberay"
MANIFESTS = sorted(path.name for path in FOLDER.glob("*.yaml"))


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    definition = yaml.safe_load((Path(__file__).parent / "manifests" / "kuberay.schema.yaml").read_text())
    Draft202012Validator.check_schema(definition)
    return Draft202012Validator(definition)


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_valid(name: str, schema: Draft202012Validator) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in schema.iter_errors(manifest(name))]
    assert errors == []


def test_cluster_and_job_are_there() -> None:
    assert {"raycluster.yaml", "rayjob.yaml"} <= set(MANIFESTS)


def pod(tree: dict[str, Any]) -> Any:
    return tree["spec"]["workerGroupSpecs"][1]["template"]["spec"]


BREAKS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an unknown field of the cluster": lambda tree: tree["spec"].update(enableAutoscaling=True),
    "an unknown field of a container": lambda tree: pod(tree)["containers"][0].update(envfrom=[]),
    "a wrong type": lambda tree: tree["spec"]["workerGroupSpecs"][0].update(maxReplicas="6"),
    "a number among start parameters": lambda tree: tree["spec"]["headGroupSpec"].update(
        rayStartParams={"num-cpus": 0}
    ),
    "labels among start parameters": lambda tree: tree["spec"]["workerGroupSpecs"][0].update(
        rayStartParams={"labels": "role=cpu"}
    ),
    "no head": lambda tree: tree["spec"].pop("headGroupSpec"),
    "no containers": lambda tree: pod(tree).pop("containers"),
    "no group name": lambda tree: tree["spec"]["workerGroupSpecs"][0].pop("groupName"),
    "a mount without a path": lambda tree: pod(tree)["containers"][0]["volumeMounts"][0].pop("mountPath"),
    "a token without the version of Ray": lambda tree: tree["spec"].pop("rayVersion"),
    "another restart policy": lambda tree: pod(tree).update(restartPolicy="Always"),
    "a bad quantity": lambda tree: pod(tree)["containers"][0]["resources"]["limits"].update(memory="900 GB"),
    "another kind": lambda tree: tree.update(kind="RayClusters"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_manifest_is_refused(what: str, schema: Draft202012Validator) -> None:
    tree = copy.deepcopy(manifest("raycluster.yaml"))
    BREAKS[what](tree)
    with pytest.raises(ValidationError):
        schema.validate(tree)


def test_a_job_needs_a_cluster(schema: Draft202012Validator) -> None:
    tree = manifest("rayjob.yaml")
    del tree["spec"]["rayClusterSpec"]
    with pytest.raises(ValidationError):
        schema.validate(tree)


def test_the_jobs_cluster_is_the_cluster() -> None:
    assert manifest("rayjob.yaml")["spec"]["rayClusterSpec"] == manifest("raycluster.yaml")["spec"]


def test_groups_are_the_node_types_of_cluster_yaml() -> None:
    types = yaml.safe_load((ROOT / "cluster.yaml").read_text())["available_node_types"]
    groups = manifest("raycluster.yaml")["spec"]["workerGroupSpecs"]
    ours = {group["labels"]["role"]: group for group in groups}
    theirs = {each["labels"]["role"]: each for name, each in types.items() if name != "head"}
    assert ours.keys() == theirs.keys()
    for role, group in ours.items():
        (container,) = group["template"]["spec"]["containers"]
        assert group["maxReplicas"] == theirs[role]["max_workers"]
        assert int(container["resources"]["limits"].get("nvidia.com/gpu", 0)) == theirs[role]["resources"].get("GPU", 0)


def test_token_autoscaler_shared_disk_and_grace_are_on() -> None:
    spec = manifest("raycluster.yaml")["spec"]
    assert spec["authOptions"]["mode"] == "token"
    assert spec["enableInTreeAutoscaling"]
    pods = [spec["headGroupSpec"]["template"]["spec"]]
    pods += [group["template"]["spec"] for group in spec["workerGroupSpecs"]]
    for each in pods:
        mounts = {mount["name"]: mount["mountPath"] for mount in each["containers"][0]["volumeMounts"]}
        assert mounts == {"runs": "/mnt/residency", "shm": "/dev/shm"}
        assert {volume["name"] for volume in each["volumes"]} == mounts.keys()
        assert all("valueFrom" in entry for entry in each["containers"][0].get("env", [])), "no secret by value"
    assert all(each["terminationGracePeriodSeconds"] >= 60 for each in pods[1:])


def test_versions_are_those_of_the_lock() -> None:
    (pinned,) = re.findall(r"^ray==(\S+)$", (ROOT / "requirements" / "gpu.lock").read_text(), re.M)
    assert manifest("raycluster.yaml")["spec"]["rayVersion"] == pinned
    for path in (FOLDER / "Dockerfile", ROOT / "cluster.yaml", ROOT / "deploy" / "on-premises.yaml"):
        assert set(re.findall(r"rayproject/ray:(\d+\.\d+\.\d+)-", path.read_text())) == {pinned}, path


def test_the_image_holds_both_sides_of_the_links() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    copied = {
        words[-2]: words[-1] for words in (line.split() for line in lines if line.startswith("COPY")) if len(words) == 4
    }
    assert copied["src"] == "/opt/residency/src"
    links = [path for path in (ROOT / "src" / "residency").iterdir() if path.is_symlink()]
    assert len(links) >= 6
    for link in links:
        assert copied[link.name] == f"/opt/residency/{link.name}", "the folder stands beside src, where the link points"
    let_in = {
        line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert copied.keys() | {"pyproject.toml", "README.md"} <= let_in
    assert all((ROOT / name).exists() for name in let_in)
