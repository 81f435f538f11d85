"""A step's diagnosis from tables and folders alone, so that it runs in any process: the learners need not be there."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from residency.platform.records import PolicyVersion
from residency.training.losses import LossConfig
from residency.training.mismatch.diagnosis import Diagnosis, diagnose
from residency.training.mismatch.plain_scorer import PlainScorer
from residency.training.mismatch.probes import Scoring
from residency.training.mismatch.sampled_row import sampled_rows
from residency.training.weights_echo import WeightsEcho


def diagnose_step(
    traces: pa.Table,
    batch: pa.Table,
    media: pa.Table,
    *,
    folder: Path,
    version: PolicyVersion,
    loss: LossConfig,
    dtype: str,
    measured: float,
    budget: float,
    prompts: Mapping[str, str] | None = None,
    older: Mapping[str, Path] | None = None,
    generators_folder: Path | None = None,
    digests: Sequence[str] = (),
    echoes: Sequence[WeightsEcho] = (),
    trust_remote_code: bool = False,
) -> Diagnosis:
    """Why the meter measured what it did in this step.

    ``folder``: a checkpoint of the learner as it was in the step, of this ``version``. ``prompts``: the text that was
    asked, by item id. ``older``: label → checkpoint folder of earlier weights, newest first. ``generators_folder``: the
    one that the engines were started on, for its image processing. ``digests`` were published with the version, and
    ``echoes`` came back. Raises RoleError where no row is wholly of this version.
    """
    own = str(version)
    processors = {} if generators_folder is None else {"of the generators": generators_folder}
    scorer = PlainScorer({own: folder, **(older or {})}, own, media, processors, trust_remote_code)
    how = Scoring(weights=own, dtype=dtype, temperature=loss.temperature, top_k=loss.top_k, top_p=loss.top_p)
    probes = scorer.probes(how, version.packed, tuple(digests), tuple(echoes))
    return diagnose(sampled_rows(traces, batch, prompts), probes, budget, measured)
