"""Rows of a request table as vLLM prompts, and vLLM's outputs as a Trace table. Pure: no engine, no Ray."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from PIL import Image

from residency.platform.arrow_tables import SCHEMAS
from residency.platform.errors import BadInputError, DataError, ModelError
from residency.platform.media_store import decode_image
from residency.platform.prompts import IMAGE_MARKER, prompt_hash
from residency.platform.records import REFUSED, PolicyVersion, Trace, short_hash
from residency.platform.sampling import SamplingConfig
from residency.training.chat_content import message_content, takes_parts

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput

REQUEST_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("prompt", pa.string()),  # what render_prompt made
        ("media", pa.list_(pa.string())),  # SHA-256 of each image, in order
        ("prompt_mode", pa.string()),
        ("num_samples", pa.int32()),
        ("seed", pa.int64()),  # sample k is drawn with seed + k
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One row of a request table."""

    item_id: str
    prompt: str
    media: tuple[str, ...]
    prompt_mode: str
    num_samples: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """What the engine made of one request; no ``output`` where it refused the request.

    Each sample says which versions sampled which of its tokens, ``labels`` what those versions (packed) are called.
    ``version`` is of the weights when the request was done: a sample without tokens counts as theirs.
    """

    request: Request
    output: "RequestOutput | None"
    refusal: str = ""
    version: PolicyVersion
    labels: Mapping[int, str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Refusal:
    """Stands where a completion would: one sample of a request that the engine did not take."""

    index: int
    token_ids: tuple[int, ...] = ()
    logprobs: None = None
    finish_reason: str = REFUSED
    weight_versions: None = None


def read_requests(table: pa.Table, sampling: SamplingConfig) -> list[Request]:
    """The table's rows; BadInputError where columns are missing or a greedy request wants several samples."""
    absent = [name for name in REQUEST_SCHEMA.names if name not in table.column_names]
    if absent:
        raise BadInputError(f"request table without the columns {absent}", f"the columns {REQUEST_SCHEMA.names}")
    rows = [
        Request(**{**row, "media": tuple(row["media"] or ())}) for row in table.select(REQUEST_SCHEMA.names).to_pylist()
    ]
    for row in rows:
        if row.num_samples < 1 or (sampling.greedy and row.num_samples > 1):
            raise BadInputError(
                f"item {row.item_id} asks for {row.num_samples} samples at temperature {sampling.temperature:g}",
                "1 or more; exactly 1 at temperature 0, where all would be the same",
                "set num_samples to 1, or a temperature above 0",
            )
    return rows


class MediaShelf:
    """Images by hash, from one media table whose buffers stay where Arrow put them."""

    def __init__(self, media: pa.Table | None) -> None:
        self._png: pa.ChunkedArray | None = None if media is None else media.column("png")
        hashes = [] if media is None else media.column("hash").to_pylist()
        self._rows: Mapping[str, int] = {digest: row for row, digest in enumerate(hashes)}

    def __len__(self) -> int:
        return len(self._rows)

    def image(self, digest: str) -> Image.Image:
        """The decoded RGB image; DataError where the table lacks it."""
        if self._png is None or digest not in self._rows:
            raise DataError(
                f"image {digest[:12]}… is not among the {len(self)} images that were loaded",
                "every image of a request in the media table",
                "call load_media with a table that holds it",
            )
        return decode_image(self._png[self._rows[digest]].as_py(), f"image {digest[:12]}…")


def chat_renderer(tokenizer: Any) -> Callable[[Request], str]:
    """A function from request to chat text: images where the prompt marks them, else first; then the answer opens."""
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            "the model's tokenizer has no chat template",
            "a chat_template.jinja in the model folder",
            "copy it from the instruct version of the model",
        )

    as_parts = takes_parts(tokenizer)

    def render(request: Request) -> str:
        parts = message_parts(request.prompt, len(request.media))
        message = {"role": "user", "content": message_content(parts, as_parts)}
        return cast(str, tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True))

    return render


def message_parts(prompt: str, num_images: int) -> list[dict[str, str]]:
    """The user's message as parts. Markers count only where there are as many as images; else they are dropped."""
    pieces = prompt.split(IMAGE_MARKER)
    if len(pieces) == 1 or len(pieces) - 1 != num_images:
        pieces = [*[""] * num_images, "".join(pieces)]
    parts: list[dict[str, str]] = []
    for number, piece in enumerate(pieces):
        if number:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def to_prompt(request: Request, chat: str, shelf: MediaShelf, version: PolicyVersion) -> dict[str, Any]:
    """vLLM's input. The salt keeps prefixes of other weights out; the hashes name the images in vLLM's caches."""
    prompt: dict[str, Any] = {"prompt": chat, "cache_salt": str(version)}
    if request.media:
        prompt["multi_modal_data"] = {"image": [shelf.image(digest) for digest in request.media]}
        prompt["multi_modal_uuids"] = {"image": list(request.media)}
    return prompt


# Which weights sampled a sequence: (first token, packed version), in order; one pair unless they changed in its midst.
Spans = Sequence[tuple[int, int]]


def spans_of(weight_versions: Any, version: PolicyVersion) -> Spans:
    """vLLM's spans of one sample, whose labels are packed versions; one of ``version`` where it has no tokens."""
    return [(span.start, int(span.version)) for span in weight_versions or ()] or [(0, version.packed)]


def versions_by_token(spans: Spans, num_tokens: int) -> np.ndarray:
    """The packed version (int64) of the weights that sampled each token."""
    versions = np.empty(num_tokens, np.int64)
    for start, packed in spans:
        versions[start:] = packed
    return versions


def spans_text(spans: Spans) -> str:
    """``0.3``, or ``0.3,0.4@17`` where the tokens from number 17 on are of other weights."""
    texts = [f"{PolicyVersion.unpack(packed)}@{start}" for start, packed in spans]
    return ",".join(texts).replace("@0", "", 1)


def trace_id(request: Request, sampling: SamplingConfig, label: str, spans: Spans, sample_index: int) -> str:
    """Differs wherever the prompt, the images, the weights, the way of sampling or the seed differ."""
    return short_hash(
        request.item_id,
        prompt_hash(request.prompt),
        *request.media,
        label,
        spans_text(spans),
        repr(sampling),
        str(request.seed),
        str(sample_index),
    )


def to_trace_table(rows: Sequence[Sampled], sampling: SamplingConfig, role: str, tokenizer: Any) -> pa.Table:
    """The Trace table, ordered by request, then by sample. Columns are built directly: a record a trace costs time.

    A trace's ``model`` is the label of the weights that sampled its last token. A refused request has its samples too,
    ``refused`` and without tokens: their text says why.
    """
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMAS[Trace].names}
    refusals: dict[int, str] = {}
    for row in rows:
        request, hashed = row.request, prompt_hash(row.request.prompt)
        completions = [Refusal(index) for index in range(request.num_samples)]
        for completion in completions if row.output is None else row.output.outputs:
            token_ids = list(completion.token_ids)
            spans = spans_of(completion.weight_versions, row.version)
            label = row.labels[spans[-1][1]]
            if row.output is None:
                refusals[len(columns["id"])] = row.refusal
            columns["id"].append(trace_id(request, sampling, label, spans, completion.index))
            columns["item_id"].append(request.item_id)
            columns["role"].append(role)
            columns["model"].append(label)
            columns["prompt_mode"].append(request.prompt_mode)
            columns["prompt_hash"].append(hashed)
            columns["seed"].append(request.seed)
            columns["sample_index"].append(completion.index)
            columns["prompt_token_ids"].append(row.output.prompt_token_ids if row.output else [])
            columns["token_ids"].append(token_ids)
            flat = cast(Any, completion.logprobs)  # FlatLogprobs: one list of floats
            columns["logprobs"].append([] if flat is None else flat.logprobs)
            columns["policy_versions"].append(versions_by_token(spans, len(token_ids)))
            columns["finish_reason"].append(completion.finish_reason or "abort")
            columns["seconds"].append(row.seconds)
    columns["text"] = tokenizer.batch_decode(
        columns["token_ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    for row_number, reason in refusals.items():
        columns["text"][row_number] = reason
    schema = SCHEMAS[Trace]
    return pa.Table.from_arrays([pa.array(columns[field.name], type=field.type) for field in schema], schema=schema)
