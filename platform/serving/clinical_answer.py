"""The structured answer: its JSON schema, by which decoding is constrained, and its reading."""

import json
from typing import Annotated, Any

from pydantic import Field, ValidationError

from residency.platform.strict import Strict

Text = Annotated[str, Field(max_length=240)]
Lines = Annotated[list[Text], Field(max_length=8)]


class ClinicalAnswer(Strict):
    """An answer in the parts that a reader checks one by one. Bounded, so that decoding comes to an end."""

    findings: Lines
    """What is seen in the pictures and stands in the question."""
    reasoning_steps: Lines
    """How the findings lead to the answer, in order."""
    differential: Lines
    """Other answers that were weighed, the likeliest first."""
    answer: Text
    """The answer itself."""
    confidence: Annotated[float, Field(ge=0, le=1)]
    """The model's own estimate (0 to 1); it is not calibrated."""


STRUCTURED_INSTRUCTION = (
    "Answer as a JSON object with the fields findings, reasoning_steps, differential (lists of short texts), answer (a"
    " short text) and confidence (0 to 1)."
)
# Confidence as text of two digits: a grammar for every float of [0, 1] is large, and says nothing more.
CONFIDENCE = {"enum": [round(step / 20, 2) for step in range(21)]}


def clinical_schema() -> dict[str, Any]:
    """The JSON schema as the decoder takes it: no titles, no other fields, every field required."""
    line = {"type": "string", "maxLength": 240}
    lines = {"type": "array", "items": line, "maxItems": 8}
    properties = {
        "findings": lines,
        "reasoning_steps": lines,
        "differential": lines,
        "answer": line | {"minLength": 1},
        "confidence": CONFIDENCE,
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def is_clinical_answer(text: str) -> bool:
    """Whether a completion is a whole structured answer."""
    try:
        ClinicalAnswer.model_validate(json.loads(text), strict=False)
    except (ValueError, ValidationError, RecursionError):
        return False
    return True
