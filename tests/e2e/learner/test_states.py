"""State checkpoints of learner groups: gone on from exactly, with any number of ranks, and only when they are whole."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from residency.platform.errors import ModelError
from residency.platform.records import PolicyVersion
from residency.training.learner_state import read_state


@pytest.mark.timeout(300)
def test_zero3_goes_on_as_if_it_had_never_stopped(bench: Any, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint"

    async def scenario() -> None:
        group = await bench.start(bench.folder, 2, 3)
        try:
            await bench.steps(group, 2)
            await group.save_checkpoint(out, {"position": [2, 7]})
            unbroken = await bench.steps(group, 3)
            version = await group.load_checkpoint(out, incarnation=4, resume=True)
            assert version == PolicyVersion(incarnation=4, step=2)
            assert await bench.steps(group, 3) == unbroken, "bit for bit, in the same processes"
        finally:
            await group.close()
        state = read_state(out)
        assert (state.step, state.num_ranks, state.mapping) == (2, 2, {"position": [2, 7]})
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
        for ranks in (2, 1, 3):
            group = await bench.start(out, ranks, 3, resume=True, incarnation=5)
            try:
                assert await group.policy_version() == PolicyVersion(incarnation=5, step=2)
                continued = await bench.steps(group, 3)
            finally:
                await group.close()
            difference = bench.difference(continued, unbroken)
            print(f"2 -> {ranks} ranks: {difference:.1e}")
            assert difference == 0 if ranks == 2 else difference <= 1e-5
        # A byte of the optimizer's state is another: named before anything is unpickled, and no group is left.
        (optimizer,) = out.glob("state/deepspeed/*rank_1*optim_states.pt")
        content = bytearray(optimizer.read_bytes())
        content[len(content) // 2] ^= 1
        optimizer.write_bytes(content)
        with pytest.raises(ModelError, match=optimizer.name):
            await bench.start(out, 1, 3, resume=True)
        with pytest.raises(ModelError, match=optimizer.name):
            read_state(out)

    bench.run(scenario)


@pytest.mark.timeout(300)
def test_a_frozen_tower_stays_and_zero1_and_zero2_agree(bench: Any, tmp_path: Path) -> None:
    from residency.training.folder_tensors import folder_tensors

    async def scenario() -> None:
        group = await bench.start(bench.folder, 2, 2, vision_rate=0.0)
        try:
            first = await bench.steps(group, 2)
            out = await group.save_checkpoint(tmp_path / "frozen", {})
            unbroken = await bench.steps(group, 2)
        finally:
            await group.close()
        before, after = dict(folder_tensors(bench.folder)), dict(folder_tensors(out))
        moved = {name for name in before if not before[name].equal(after[name])}
        tower = {name for name in before if "visual" in name and "merger" not in name}
        assert tower, "the student has a vision tower"
        assert moved == set(before) - tower
        group = await bench.start(out, 1, 2, vision_rate=0.0, resume=True)
        try:
            assert bench.difference(await bench.steps(group, 2), unbroken) <= 1e-5, "one rank goes on from two"
        finally:
            await group.close()
        group = await bench.start(bench.folder, 2, 1, vision_rate=0.0)
        try:
            assert bench.difference(await bench.steps(group, 2), first) <= 1e-5, "ZeRO-1 is the same training"
            with pytest.raises(ModelError, match="zero_stage 2, and 1 is asked for"):
                await group.load_checkpoint(out, resume=True)
        finally:
            await group.close()

    bench.run(scenario)


@pytest.mark.timeout(300)
def test_adapters_train_alone_and_leave_merged(bench: Any, tmp_path: Path) -> None:
    import peft
    import ray
    import torch

    from residency.actors.publisher import start_publisher
    from residency.platform.recipe import LoraConfig
    from residency.training.checkpoints import load_model, saved_parameters
    from residency.training.folder_tensors import folder_tensors
    from residency.training.weight_buckets import unpack_bucket

    lora = LoraConfig(rank=4, alpha=8.0)

    async def scenario() -> None:
        group = await bench.start(bench.folder, 2, 3, lora=lora)
        publisher = start_publisher()
        try:
            losses = await bench.steps(group, 3)
            assert losses[2][0] < losses[0][0]
            manifest, refs = await group.publish_weights(publisher, "lora")
            out = await group.save_checkpoint(tmp_path / "lora", {"position": 3})
            unbroken = await bench.steps(group, 2)
            published = {
                name: tensor.clone()
                for spec, ref in zip(manifest.buckets, refs, strict=True)
                for name, tensor in unpack_bucket(spec, ray.get(ref, timeout=60), "test")
            }
        finally:
            await group.close()
            ray.kill(publisher)  # with it go the buckets that it owns
        base, saved = dict(folder_tensors(bench.folder)), dict(folder_tensors(out))
        assert set(base) == set(saved) == set(published), "no engine sees an adapter"
        assert all(saved[name].equal(tensor) for name, tensor in published.items())
        moved = {name for name in base if not base[name].equal(saved[name])}
        assert len(moved) == 4 * len(lora.modules), "every named layer of four, and nothing else"
        assert not any("visual" in name for name in moved)
        # peft's own reading of the adapter, on the base: the same weights.
        whole = peft.PeftModel.from_pretrained(load_model(bench.folder, "float32"), str(out / "adapter"))
        by_peft = saved_parameters(whole.merge_and_unload())  # pyright: ignore[reportCallIssue]
        by_us = saved_parameters(load_model(out, "float32"))
        assert all(torch.allclose(by_us[name], weight, atol=1e-7) for name, weight in by_peft.items())
        for ranks in (2, 1):
            group = await bench.start(out, ranks, 3, lora=lora, resume=True)
            try:
                difference = bench.difference(await bench.steps(group, 2), unbroken)
            finally:
                await group.close()
            assert difference == 0 if ranks == 2 else difference <= 1e-5
        shutil.rmtree(out)

    bench.run(scenario)
