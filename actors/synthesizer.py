"""The synthesizer's actor: tables in, tables out; all it does is written in ``synthesis``."""

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray

from residency.platform.arrow_tables import from_table, to_table
from residency.platform.placement import actor_options
from residency.platform.profiles import RoleConfig
from residency.platform.records import Example, Item, Trace, Verdict
from residency.platform.synthesis_config import MixtureConfig, SynthesisConfig
from residency.synthesis.annotations_teacher import rationales_of, write_rationales
from residency.synthesis.examples import direct_example
from residency.synthesis.mixture import MixtureReport, mix
from residency.synthesis.synthesized import synthesize


class SynthesizerActor:
    """Turns items, their traces and verdicts into SFT examples."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def write_rationales(self, items: pa.Table, seed: int, traces: pa.Table | None = None) -> pa.Table:
        """Items → one CoT example each, in the words of their annotations, or of each trace that they were put into."""
        records = from_table(items, Item)
        if traces is not None:
            return to_table(rationales_of(records, from_table(traces, Trace)), Example)
        return to_table(write_rationales(records, seed), Example)

    def write_direct(self, items: pa.Table) -> pa.Table:
        """Items → one direct example each."""
        return to_table([direct_example(item) for item in from_table(items, Item)], Example)

    def synthesize(
        self, items: pa.Table, traces: pa.Table, verdicts: pa.Table, config: SynthesisConfig, max_tokens: int, seed: int
    ) -> tuple[pa.Table, pa.Table]:
        """Items with their judged traces → (examples, outcomes); see ``synthesis.synthesized``."""
        examples, outcomes = synthesize(
            from_table(items, Item), from_table(traces, Trace), from_table(verdicts, Verdict), config, max_tokens, seed
        )
        return to_table(examples, Example), outcomes

    def mix(
        self, config: MixtureConfig, seed: int, modalities: pa.Table | None, *examples: pa.Table
    ) -> tuple[pa.Table, MixtureReport]:
        """Example tables → the mixture in training order, and what was wanted and got."""
        return mix(pa.concat_tables(examples), config, seed, modalities)

    def encode(self, examples: pa.Table, model_dir: str, media: pa.Table) -> pa.Table:
        """Examples → a training batch table, by the processor of the model folder."""
        # Imported here: only this verb needs torch and transformers, the others must start in a second.
        from transformers import AutoProcessor

        from residency.training.encoding import encode_examples

        return encode_examples(examples, AutoProcessor.from_pretrained(Path(model_dir)), media)

    def encode_rollouts(self, advantages: pa.Table, media: pa.Table, *traces: pa.Table) -> pa.Table:
        """Sampled traces → a training batch of those with an advantage; nothing is tokenized again.

        ``advantages`` has the columns trace_id, advantage; ``media`` item_id and media (the item's image hashes).
        """
        from residency.training.rollout_encoding import encode_rollouts

        by_trace = dict(zip(*(advantages.column(name).to_pylist() for name in ("trace_id", "advantage")), strict=True))
        by_item = dict(zip(*(media.column(name).to_pylist() for name in ("item_id", "media")), strict=True))
        return encode_rollouts(pa.concat_tables(traces), by_trace, by_item)

    def health(self) -> dict[str, Any]:
        """Process id and seconds since the start."""
        return {"pid": os.getpid(), "uptime_seconds": time.monotonic() - self._started}


def start_synthesizer(*, placement: RoleConfig | None = None, **options: Any) -> Any:
    """Handle of a new synthesizer; ``placement`` gives CPUs and labels, ``options`` are further Ray actor options."""
    placed = {} if placement is None else actor_options(placement)
    return ray.remote(SynthesizerActor).options(**{**placed, **options}).remote()
