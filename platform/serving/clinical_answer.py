"""The structured answer: its JSON schema, the grammar by which decoding is constrained, and the check of what came out.

The parts are those that a reader checks one by one: what is seen (findings), how it leads to the answer in order
(reasoning_steps), what else was weighed, the likeliest first (differential), the answer, and the model's own estimate
of it (confidence, 0 to 1, not calibrated). All are bounded, so that decoding comes to an end.
"""

import json
from typing import Any

LISTS = ("findings", "reasoning_steps", "differential")
MOST_LINES, LONGEST = 8, 240  # texts of a list, characters of a text
STRUCTURED_INSTRUCTION = (
    "Answer as a JSON object with the fields findings, reasoning_steps, differential (lists of short texts), answer (a"
    " short text) and confidence (0 to 1)."
)
# A grammar for every number of [0, 1] is large, and says nothing more; eighths are exact in binary, so they print so.
CONFIDENCES = [step / 8 for step in range(9)]


def clinical_schema() -> dict[str, Any]:
    """The JSON schema: no other fields, every field required."""
    text = {"type": "string", "maxLength": LONGEST}
    properties: dict[str, Any] = {name: {"type": "array", "items": text, "maxItems": MOST_LINES} for name in LISTS}
    properties |= {"answer": text | {"minLength": 1}, "confidence": {"enum": CONFIDENCES}}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def clinical_grammar() -> str:
    """The schema as the decoder takes it (EBNF). Its own translation of a schema with bounded texts lets control
    characters through, which are no JSON, and escapes of half a character, which are no text; here neither may stand.
    """
    lists = " ".join(rf'"\"{name}\":" lines ","' for name in LISTS)
    values = " | ".join(f'"{value:g}"' for value in CONFIDENCES)
    return rf"""
root ::= "{{" {lists} "\"answer\":\"" char{{1,{LONGEST}}} "\",\"confidence\":" confidence "}}"
lines ::= "[]" | "[" text more{{0,{MOST_LINES - 1}}} "]"
more ::= "," text
text ::= "\"" char{{0,{LONGEST}}} "\""
char ::= [^"\\\x00-\x1f\x7f]
confidence ::= {values}
"""


def is_clinical_answer(text: str) -> bool:
    """Whether a completion is a whole structured answer."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict) or document.keys() != {*LISTS, "answer", "confidence"}:
        return False
    lists = [document[name] for name in LISTS]
    return (
        all(isinstance(each, list) and len(each) <= MOST_LINES and all(map(_is_text, each)) for each in lists)
        and _is_text(document["answer"])
        and document["answer"] != ""
        and document["confidence"] in CONFIDENCES
        and not isinstance(document["confidence"], bool)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST
