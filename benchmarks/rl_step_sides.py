"""The sides of ``rl_step.py``, each in a process of its own. A side calls ``gate.done()`` after each of its steps."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from rl_step_work import SEED, Work, items_of, media_of, profile_of, purpose_of, recipe_of, requests_of

WARM_UP_STEPS = 2
IMAGES = {"image": 1, "video": 0}


class Finished(Exception):
    """No more steps are wanted."""


class Gate:
    """Stops a side after each step until it is told to go on, and times it in between. The first steps warm up."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # whatever else prints goes to standard error
        self._step, self._began = 0, 0.0

    def done(self, **details: Any) -> None:
        """Raises Finished where no further step is wanted."""
        seconds = time.perf_counter() - self._began
        self._step += 1
        if self._step < WARM_UP_STEPS:
            return
        if self._step == WARM_UP_STEPS:
            self._tell({"ready": True})
        else:
            self._tell({"seconds": seconds, **details})
        if not sys.stdin.readline():
            raise Finished
        self._began = time.perf_counter()

    def _tell(self, answer: Mapping[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


def ours(work: Work, gate: Gate) -> None:
    """The stage that a run runs: controller, generator, verifier, synthesizer, learner ranks, publisher, journal."""
    from residency.platform.cluster import prepare_environment

    prepare_environment()  # before what imports Ray
    from residency.platform.cli.crew import Crew
    from residency.platform.cli.screen import Screen
    from residency.platform.cli.stages.rl_stage import train_with_rewards
    from residency.platform.cluster import local_cluster
    from residency.platform.journal.journal import Journal
    from residency.platform.run_folder import RunFolder

    class GatedRun(RunFolder):
        """A step ends with its metrics; what comes after them belongs to the next one: its weights, then its groups."""

        def metric(
            self, role: str, step: int, values: Mapping[str, float], units: Mapping[str, str] | None = None
        ) -> None:
            gate.done(metrics={name: value for name, value in values.items() if name.endswith("seconds")})
            super().metric(role, step, values, units)

    recipe, profile, run = recipe_of(work), profile_of(), GatedRun(work.run)
    prompts = [item.id for item in items_of(work)]

    async def train() -> None:
        async with Crew(recipe, profile, run, SEED, Screen(quiet=True), journal) as crew:
            await train_with_rewards(crew, "rl", "rl", prompts, work.steps, None)

    with Journal.open(run.path / "journal") as journal, local_cluster(profile, run.logs):
        asyncio.run(train())


def offline(work: Work, gate: Gate) -> None:
    """vLLM alone: ``LLM.generate`` in this process, by the engine's own flags, on the requests of each step."""
    from residency.actors.engine_config import EngineConfig, engine_environment

    profile, recipe = profile_of(), recipe_of(work)
    config = EngineConfig.from_profile(
        profile,
        profile.generators,
        max_model_len=recipe.student.max_prompt_tokens + recipe.student.max_new_tokens,
    )
    os.environ.update(engine_environment(config.threads))
    from vllm import SamplingParams

    from residency.actors.engine_requests import MediaShelf, chat_renderer, read_requests
    from residency.platform.sampling import SamplingConfig

    llm = start_llm(str(work.student), config)
    shelf, render = MediaShelf(media_of(work)), chat_renderer(llm.get_tokenizer())
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=work.tokens)
    for step in range(work.steps):
        requests = read_requests(requests_of(work, step), sampling)
        prompts: list[Any] = [
            {"prompt": render(request), "multi_modal_data": {"image": shelf.image(request.media[0])}}
            for request in requests
        ]
        params = [
            SamplingParams(
                n=request.num_samples, seed=request.seed, temperature=1.0, max_tokens=work.tokens, logprobs=0
            )
            for request in requests
        ]
        began = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - began
        num_tokens = sum(len(completion.token_ids) for output in outputs for completion in output.outputs)
        gate.done(generate_seconds=seconds, tokens=num_tokens)


def start_llm(model: str, config: Any, **others: Any) -> Any:
    """``vllm.LLM`` with the flags of our engine."""
    import torch
    from vllm import LLM

    from residency.actors.media_ban import MEDIA_TOKEN_BAN

    torch.set_num_threads(config.threads)
    return LLM(
        model=model,
        dtype=config.dtype,
        max_model_len=config.max_model_len,
        max_num_seqs=config.max_sequences,
        max_num_batched_tokens=config.max_batch_tokens,
        block_size=config.block_size,
        kv_cache_memory_bytes=int(config.kv_cache_gib * 1024**3),
        limit_mm_per_prompt=IMAGES,
        enforce_eager=True,
        logprobs_mode="processed_logprobs",
        logits_processors=[MEDIA_TOKEN_BAN],
        **others,
    )


def bare(work: Work, gate: Gate, rank: int, num_ranks: int, threads: int) -> None:
    """Forward and backward in plain PyTorch on the tensors of our own step: no optimizer, no entropy, no collation.

    With two ranks each takes its half of the rows and nothing is reduced between them.
    """
    os.environ.update(OMP_NUM_THREADS=str(threads), HF_HUB_OFFLINE="1")
    import torch

    from residency.training.checkpoints import load_model, load_processor
    from residency.training.model_folder import media_token_ids

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = load_model(work.student, "float32").train()
    banned = torch.tensor(media_token_ids(work.student))
    processor, media = load_processor(work.student), media_of(work)
    step = 0
    while True:
        micros = micro_batches(work, max(0, step), rank, num_ranks, processor, media, model)
        total = sum(float(micro.weights_T.sum()) for micro in micros) * num_ranks
        began = time.perf_counter()
        for micro in micros:
            hidden = model.base_model(
                input_ids=micro.input_ids,
                attention_mask=micro.attention_mask,
                mm_token_type_ids=micro.mm_token_type_ids,
                **micro.images,
                use_cache=False,
            ).last_hidden_state
            logits_TV = model.get_output_embeddings()(hidden.flatten(0, 1).index_select(0, micro.positions_T))
            logits_TV = logits_TV.index_fill(1, banned, float("-inf"))
            logprobs_T = torch.log_softmax(logits_TV, -1).gather(1, micro.targets_T.unsqueeze(1)).squeeze(1)
            ratio_T = torch.exp(logprobs_T - logprobs_T.detach())
            (-(ratio_T * micro.advantages_T * micro.weights_T).sum() / total).backward()
        seconds = time.perf_counter() - began
        model.zero_grad(set_to_none=True)
        gate.done(train_seconds=seconds, rows=sum(len(micro.input_ids) for micro in micros))
        step = newest_step(work)


def newest_step(work: Work) -> int:
    """The step that our side has sampled last."""
    return max(int(path.name.split("-")[2]) for path in (work.run / "traces").glob("part-rl-*.arrow"))


def micro_batches(
    work: Work, step: int, rank: int, num_ranks: int, processor: Any, media: pa.Table, model: Any
) -> list[Any]:
    """The step's tensors, ready, in as many micro-batches as our own ranks make."""
    from residency.platform.run_folder import RunFolder
    from residency.training.collation import collate
    from residency.training.micro_batches import plan_micro_batches
    from residency.training.model_inputs import model_tokens
    from residency.training.pixel_cache import PixelCache
    from residency.training.rollout_encoding import encode_rollouts
    from residency.training.training_batch import BatchReader

    traces = RunFolder(work.run).read_part("traces", purpose_of(step), 0)
    ids = traces.column("id").to_pylist()
    advantages = {trace_id: 1.0 if row % 2 else -1.0 for row, trace_id in enumerate(ids)}
    reader = BatchReader(encode_rollouts(traces, advantages, {item.id: item.media for item in items_of(work)}))
    plan = plan_micro_batches(reader.lengths.tolist(), num_ranks, profile_of().learners.micro_batch_tokens)
    pixels, tokens = PixelCache(processor, media), model_tokens(model.config, processor)
    return [collate(reader, rows, pixels, tokens) for rows in plan[rank]]


def serve(side: str, work: Work) -> None:
    """Be one side until standard input ends."""
    gate = Gate()
    sides: dict[str, Callable[[], None]] = {
        "ours": lambda: ours(work, gate),
        "offline": lambda: offline(work, gate),
        "bare_2_threads": lambda: bare(work, gate, 0, 1, 2),
        "bare_rank_0": lambda: bare(work, gate, 0, 2, 1),
        "bare_rank_1": lambda: bare(work, gate, 1, 2, 1),
        "trl_vllm": lambda: trl(work, gate, True),
        "trl_generate": lambda: trl(work, gate, False),
    }
    with contextlib.suppress(Finished):
        sides[side]()


def trl(work: Work, gate: Gate, use_vllm: bool) -> None:
    """TRL's GRPOTrainer on the same model, prompts, pictures and lengths; a step is what it does between two gates."""
    from rl_step_trl import train

    train(work, gate, use_vllm, Path(work.folder) / "trl")
