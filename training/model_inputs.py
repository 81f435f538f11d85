"""What a model takes beside its token ids, found by its forward's signature; what cannot be given to it is refused."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image

from residency.platform.errors import ModelError
from residency.training.checkpoints import tokenizer_of
from residency.training.collation import Dummy, MicroBatch, ModelTokens
from residency.training.image_features import check_processor, features_of, grey_picture

TOKEN_TYPES = ("mm_token_type_ids", "token_type_ids")  # 1 where a token stands for an image
# What language models are configured to do to the logits after the head, and the values that change nothing.
CHANGED_LOGITS = {
    "final_logit_softcapping": (None,),
    "logit_scale": (None, 1),
    "logits_scaling": (None, 1),
    "lm_head_multiplier": (None, 1),
    "output_multiplier": (None, 1),
}


def forward_names(model: Any) -> frozenset[str]:
    """The arguments that the model's body (all but its head) takes by name."""
    return frozenset(inspect.signature(model.base_model.forward).parameters)


def media_inputs(batch: MicroBatch, accepted: frozenset[str]) -> dict[str, torch.Tensor]:
    """Of a micro-batch what the model takes of its pictures; nothing where it has none."""
    if not batch.images:  # then the model is a text-only one: a dummy picture stands in everywhere else
        return {}
    types = dict.fromkeys(TOKEN_TYPES, batch.mm_token_type_ids)
    return {name: tensor for name, tensor in {**types, **batch.images}.items() if name in accepted}


def model_tokens(config: Any, processor: Any) -> ModelTokens:
    """What collation needs to know of a model; ModelError for a processor that does not say what pictures become."""
    tokenizer = tokenizer_of(processor)
    pad = int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
    if getattr(config, "vision_config", None) is None:
        return ModelTokens(pad=pad)
    check_processor(processor)
    grey = grey_picture(processor)
    return ModelTokens(
        pad=pad,
        image=tuple(int(token) for token in processor.image_token_ids),
        dummy=Dummy(features=grey, token_ids=tuple(tokenizer(grey.text, add_special_tokens=False)["input_ids"])),
    )


def check_inputs(model: Any, processor: Any) -> None:
    """ModelError for a model whose logits are not its head's alone, or which takes more than collation gives.

    What it takes is seen by the processor's own call on one picture.
    """
    kind, text_config = model.config.model_type, model.config.get_text_config()
    for name, harmless in CHANGED_LOGITS.items():
        value = getattr(text_config, name, None)
        if value not in harmless:
            raise ModelError(
                f"a {kind} model changes its logits after the head ({name} = {value})",
                "a model whose logits are those of its head: the learner runs the head on the completion alone",
                "take a model of another family",
            )
    if getattr(model.config, "vision_config", None) is None:
        return
    check_processor(processor)
    accepted, picture = forward_names(model), Image.new("RGB", (28, 28), (128, 128, 128))
    wanted: Mapping[str, Any] = processor(text=[processor.image_token], images=[picture], return_tensors="pt")
    given = {"input_ids", "attention_mask", *TOKEN_TYPES, *features_of(processor, [picture])[0].tensors}
    beyond = sorted(set(wanted) & accepted - given)
    types = torch.isin(wanted["input_ids"], torch.tensor(processor.image_token_ids)).int()
    beyond += [name for name in TOKEN_TYPES if name in accepted and not equal(wanted.get(name), types)]
    if beyond:
        raise ModelError(
            f"a {kind} model also takes {', '.join(beyond)}, made from text and pictures together",
            "one that takes token ids, the type of each token (image or not) and tensors of the pictures",
            "take a model of another family, or a text-only one",
        )


def equal(given: Any, types: torch.Tensor) -> bool:
    """Whether the processor's own token types, if it makes any, are these."""
    return given is None or torch.equal(torch.as_tensor(given).int(), types)
