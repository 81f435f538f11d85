"""One generator a session, on another node than publisher and media: vLLM's start is the dearest thing here."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

DEADLINE_SECONDS = 240
BASE_STEP, OTHER_STEP = 1, 2


@dataclass
class Rig:
    """A running generator and what stands around it."""

    generator: Any
    publisher: Any
    media: pa.Table
    media_ref: Any
    folders: dict[str, Path] = field(default_factory=dict)  # label → model folder

    def requests(self, num_prompts: int, num_samples: int, seed: int = 0, text_only: bool = False) -> pa.Table:
        from residency.actors.engine_requests import REQUEST_SCHEMA
        from residency.platform.prompts import THINK_INSTRUCTION

        hashes = self.media.column("hash").to_pylist()
        rows = [
            {
                "item_id": f"item{row}",
                "prompt": f"which side is the lesion on? {row}\n{THINK_INSTRUCTION}",
                "media": [] if text_only else [hashes[row % len(hashes)]],
                "prompt_mode": "think",
                "num_samples": num_samples,
                "seed": seed + 1000 * row,
            }
            for row in range(num_prompts)
        ]
        return pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA)

    @staticmethod
    def answer(ref: Any) -> Any:
        """What a reference stands for, before the deadline."""
        import ray

        return ray.get(ref, timeout=DEADLINE_SECONDS)

    def start(
        self, requests: pa.Table, temperature: float = 1.0, max_new_tokens: int = 12, top_k: int = 0, top_p: float = 1.0
    ) -> Any:
        """A reference to the traces. Requests travel by reference, as they do in a run."""
        import ray

        from residency.platform.sampling import SamplingConfig

        sampling = SamplingConfig(temperature=temperature, max_new_tokens=max_new_tokens, top_k=top_k, top_p=top_p)
        return self.generator.generate.remote(ray.put(requests), sampling)

    def generate(self, requests: pa.Table, **sampling: Any) -> pa.Table:
        return self.answer(self.start(requests, **sampling))

    def wait_until_running(self, reference: Any) -> None:
        """Until the engine has a request of it; it must not be done before."""
        import ray

        while not self.answer(self.generator.health.remote()).running:
            assert not ray.wait([reference], timeout=0)[0], "it was done before anything ran"

    def publish(self, label: str, step: int, bucket_bytes: int = 2_000_000) -> tuple[Any, list[Any]]:
        from residency.platform.records import PolicyVersion

        version = PolicyVersion(incarnation=0, step=step)
        folder = str(self.folders[label])
        return self.answer(self.publisher.publish_folder.remote(folder, version, label, bucket_bytes))

    def update(self, manifest: Any, refs: list[Any], **how: bool) -> Any:
        return self.answer(self.generator.update_weights.remote(manifest, refs, **how))


@pytest.fixture(scope="session")
def rig(ray_cluster: Any, tiny_student_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The generator alone on the right node; the driver, the publisher and the media on the left one."""
    import ray
    from PIL import Image

    from residency.actors.engine_config import EngineConfig
    from residency.actors.generator import start_generator
    from residency.actors.publisher import start_publisher
    from residency.platform.media_store import MEDIA_SCHEMA, encode_png, media_hash

    other = other_student(tiny_student_dir, tmp_path_factory.mktemp("other") / "tiny")
    generator = start_generator(
        tiny_student_dir,
        EngineConfig(threads=1, max_sequences=32, max_model_len=128, max_batch_tokens=1024, kv_cache_gib=0.1),
        label="base",
        **ray_cluster.on(ray_cluster.right),
    )
    publisher = start_publisher(**ray_cluster.on(ray_cluster.left))
    pixels = np.random.default_rng(0).integers(0, 255, (4, 84, 84, 3), dtype=np.uint8)
    pngs = [encode_png(Image.fromarray(image)) for image in pixels]
    media = pa.Table.from_pylist([{"hash": media_hash(png), "png": png} for png in pngs], schema=MEDIA_SCHEMA)
    media_ref = ray.put(media)
    health = Rig.answer(generator.health.remote())
    assert health.alive, health.cause
    assert Rig.answer(generator.load_media.remote(media_ref)) == len(pngs)
    yield Rig(generator, publisher, media, media_ref, {"base": tiny_student_dir, "other": other})
    Rig.answer(generator.close.remote())
    ray.kill(generator)
    ray.kill(publisher)


def other_student(base: Path, out: Path) -> Path:
    """The base folder with other weights: every tensor a little away from where it was."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, out)
    generator = torch.Generator().manual_seed(1)
    weights = load_file(base / "model.safetensors")
    moved = {name: w + 0.05 * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    save_file(moved, out / "model.safetensors", metadata={"format": "pt"})
    return out


@dataclass
class Served:
    """A served tiny model, for every suite that needs one. ``handle.apply`` changes what is on call; whoever does so
    puts ``state`` back."""

    url: str
    key: str
    model: str
    handle: Any
    state: Any
    folders: dict[str, Path]  # version → model folder: v1 is on call, v2 has other weights
    data: Path  # audit, media, feedback


@pytest.fixture(scope="session")
def served(ray_cluster: Any, tiny_student_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One real Ray Serve replica with a real vLLM engine behind a whole door: uploads, feedback and audit are on."""
    import httpx

    from residency.actors.serving.starting import single_state, start_serving
    from residency.platform.profiles import Profile, RoleConfig
    from residency.platform.serving.door_config import DoorConfig
    from residency.platform.serving.key_ring import add_key

    data = tmp_path_factory.mktemp("served")
    other = other_student(tiny_student_dir, tmp_path_factory.mktemp("served-other") / "tiny")
    profile = Profile(name="test", server=RoleConfig(cpus=0.5, threads=2), deadline_seconds=120)
    key = add_key(data / "keys.json", "tests")
    door = DoorConfig(
        keys_file=str(data / "keys.json"),
        audit_folder=str(data / "audit"),
        media_folder=str(data / "media"),
        feedback_folder=str(data / "feedback"),
        body_mib=4,
    )
    state = single_state(tiny_student_dir, "resident")
    handle = start_serving([state], profile, key, deadline_seconds=DEADLINE_SECONDS, max_model_len=1024, door=door)
    yield Served(handle.url, key, "resident", handle, state, {"v1": tiny_student_dir, "v2": other}, data)
    handle.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(handle.url + "/models", timeout=5)


@pytest.fixture(scope="session")
def trainer_logprobs() -> Callable[..., list[float]]:
    """A plain transformers forward on the engine's own prompt ids: the logprob of each token of one trace."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from residency.training.model_folder import media_token_ids

    def logprobs(
        model_dir: Path,
        trace: Mapping[str, Any],
        png: bytes | None,
        temperature: float,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> list[float]:
        model = AutoModelForImageTextToText.from_pretrained(model_dir, dtype=torch.float32).eval()
        inputs: dict[str, Any] = {}
        if png is not None:
            image = Image.open(io.BytesIO(png)).convert("RGB")
            processor: Any = AutoProcessor.from_pretrained(model_dir)
            inputs = dict(processor.image_processor(images=[image], return_tensors="pt"))
        ids = torch.tensor([[*trace["prompt_token_ids"], *trace["token_ids"]]])
        image_token = json.loads((model_dir / "config.json").read_text())["image_token_id"]
        with torch.no_grad():
            logits = model(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == image_token).int(),
                **inputs,
            ).logits[0]
        logits[:, list(media_token_ids(model_dir))] = float("-inf")
        start = len(trace["prompt_token_ids"])
        logits = logits[start - 1 : -1] / temperature
        if top_k:
            logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], float("-inf"))
        if top_p < 1:  # a token stays where the likelier ones together fall short of top_p
            likelier, order = logits.softmax(-1).sort(-1, descending=True)
            beyond = likelier.cumsum(-1) - likelier >= top_p
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), float("-inf"))
        chosen = torch.log_softmax(logits, -1)
        return chosen.gather(1, ids[0, start:, None])[:, 0].tolist()

    return logprobs


@pytest.fixture(scope="session")
def dies_in() -> Callable[[Any, int], int]:
    """To be run on a learner rank's actor (``__ray_call__``): it kills its own process, as `kill -9` would, a moment
    into the step after that many; its process id."""

    def arm(actor: Any, step: int) -> int:
        import os
        import signal
        import threading
        import time

        def wait_and_die() -> None:
            while actor._engine.step != step:
                time.sleep(0.001)
            time.sleep(0.03)
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=wait_and_die, daemon=True).start()
        return os.getpid()

    return arm
