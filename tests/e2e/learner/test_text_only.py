"""A text-only model: trained, saved, published and served like the others; pictures are refused in words."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from residency.platform.errors import DataError

DEADLINE_SECONDS = 240.0


def build_text_only(out: Path, student: Path) -> Path:
    """A tiny Qwen2 for text, from configuration, with the student's tokenizer and chat template."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from residency.training.checkpoints import load_processor
    from residency.training.student import initialize_wide

    tokenizer = load_processor(student).tokenizer
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    initialize_wide(model)
    model.save_pretrained(out)
    tokenizer.chat_template = (student / "chat_template.jinja").read_text()
    tokenizer.save_pretrained(out)
    return out


@pytest.mark.timeout(400)
def test_a_text_only_model_trains_saves_publishes_and_is_served(bench: Any, tmp_path: Path, ray_cluster: Any) -> None:
    import ray
    import torch

    from residency.actors.engine_config import EngineConfig
    from residency.actors.engine_requests import REQUEST_SCHEMA
    from residency.actors.generator import start_generator
    from residency.actors.publisher import start_publisher
    from residency.platform.sampling import SamplingConfig
    from residency.training.checkpoints import load_model
    from residency.training.losses import LossConfig

    folder = build_text_only(tmp_path / "text", bench.folder)
    rows = bench.encode(folder, bench.media, 3, with_pictures=False)
    with pytest.raises(DataError, match="text-only model"):
        bench.encode(folder, bench.media, 1, with_pictures=True)
    generator = start_generator(
        folder,
        EngineConfig(threads=1, max_sequences=8, max_model_len=128, max_batch_tokens=512, kv_cache_gib=0.1),
        label="base",
        **ray_cluster.on(ray_cluster.right),
    )

    def ask(media: list[str]) -> Any:
        row = {"item_id": "item", "prompt": "is a cell there?", "media": media, "prompt_mode": "direct"}
        table = pa.Table.from_pylist([row | {"num_samples": 2, "seed": 0}], schema=REQUEST_SCHEMA)
        sampling = SamplingConfig(temperature=1.0, max_new_tokens=8, top_k=20, top_p=0.9)
        return ray.get(generator.generate.remote(ray.put(table), sampling), timeout=DEADLINE_SECONDS)

    async def scenario() -> None:
        group, publisher = await bench.start(folder, 2, 3), start_publisher()
        try:
            rows_ref, losses = ray.put(rows), []
            for _ in range(6):
                # One row and two ranks: the other rank runs a row of padding.
                stats = [
                    await group.forward_backward(rows_ref, chosen, LossConfig(kind="sft")) for chosen in ([0], [1, 2])
                ]
                await group.optim_step()
                losses.append(sum(part.loss for part in stats))
            assert losses[-1] < 0.85 * losses[0]
            with pytest.raises(DataError, match="images for a text-only model"):
                await group.forward_backward(bench.rows_ref, None, LossConfig(kind="sft"))
        finally:
            await group.close()
        group = await bench.start(folder, 1, 2)
        try:
            await group.forward_backward(rows_ref, None, LossConfig(kind="sft"))
            await group.optim_step()
            saved = await group.save_checkpoint(tmp_path / "saved", {})
            manifest, refs = await group.publish_weights(publisher, "text@1")
        finally:
            await group.close()
        ray.get(generator.load_media.remote(bench.media_ref), timeout=DEADLINE_SECONDS)
        ray.get(generator.update_weights.remote(manifest, refs), timeout=DEADLINE_SECONDS)
        trace = ask([]).to_pylist()[0]
        assert trace["model"] == "text@1"
        # The trainer's logprobs of what the engine sampled under top-k and top-p, on the saved weights.
        from residency.training.logprobs import token_logprobs

        ids = torch.tensor([trace["prompt_token_ids"] + trace["token_ids"]])
        start = len(trace["prompt_token_ids"])
        logits = load_model(saved, "float32").eval()(input_ids=ids).logits[0, start - 1 : -1].detach()
        ours, _ = token_logprobs(logits, ids[0, start:], top_k=20, top_p=0.9)
        assert ours.tolist() == pytest.approx(trace["logprobs"], abs=1e-5)
        refused = ask([bench.media.column("hash")[0].as_py()]).to_pylist()[0]
        assert refused["finish_reason"] == "refused"
        print(refused["text"])
        ray.kill(publisher)

    try:
        bench.run(scenario)
    finally:
        ray.kill(generator)
