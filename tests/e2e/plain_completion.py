"""A checkpoint in plain transformers and plain vLLM, in a process that imports nothing of ours."""

import sys
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from vllm import LLM, SamplingParams

TOKENS = 8


def main(folder: str) -> None:
    """Both complete one text prompt greedily; AssertionError where their tokens differ."""
    processor: Any = AutoProcessor.from_pretrained(folder)
    chat = [{"role": "user", "content": [{"type": "text", "text": "give only the answer"}]}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = processor(text=[text], return_tensors="pt")
    prompt = ids["input_ids"][0].tolist()
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    plain = model.generate(**ids, max_new_tokens=TOKENS, do_sample=False)[0, len(prompt) :].tolist()
    few = {"image": 1, "video": 0}
    engine = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=256, limit_mm_per_prompt=few)
    sampling = SamplingParams(temperature=0, max_tokens=TOKENS)
    fast = list(engine.generate([{"prompt_token_ids": prompt}], sampling)[0].outputs[0].token_ids)
    assert fast[: len(plain)] == plain[: len(fast)], (fast, plain)
    print("SAME", len(plain))


if __name__ == "__main__":
    main(sys.argv[1])
