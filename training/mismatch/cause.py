"""What a probe found: a layer that may be the cause, how much of the mismatch it explains, and what to do."""

from dataclasses import dataclass
from enum import StrEnum

VANISHED = 0.9  # share that must be gone for a probe to count as proof
LIKELY = 0.5


class Layer(StrEnum):
    DTYPE = "dtype"
    TRUNCATION = "truncation"
    STALE_WEIGHTS = "stale weights"
    CHAT_TEMPLATE = "chat template"
    IMAGE_PROCESSING = "image processing"
    RETOKENIZATION = "retokenization"


REMEDY = {
    Layer.DTYPE: "give generators and learners one dtype and one kind of kernels, or set rl.max_mismatch for what they"
    " differ by",
    Layer.TRUNCATION: "apply the same temperature, top-k and top-p on both sides: the recipe's rl.temperature, rl.top_k"
    " and rl.top_p",
    Layer.STALE_WEIGHTS: "publish the weights again, and replace the generator whose echo or canary does not fit",
    Layer.CHAT_TEMPLATE: "train on the engine's own prompt ids, and keep one chat template on both sides",
    Layer.IMAGE_PROCESSING: "give generators and learners the same preprocessor_config.json and the same pictures",
    Layer.RETOKENIZATION: "train on the trace's token_ids, and never on its text encoded again",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """``explained``: the share (0–1) of the mismatch that is gone once the layer is put right.

    ``probed`` is False where nothing could be put right, and statistics alone point to the layer: then ``explained``
    is how well they fit, and it never counts as proof.
    """

    layer: Layer
    explained: float
    evidence: str
    probed: bool = True

    @property
    def proven(self) -> bool:
        return self.probed and self.explained >= VANISHED

    @property
    def likely(self) -> bool:
        return self.explained >= LIKELY

    @property
    def remedy(self) -> str:
        return REMEDY[self.layer]
