"""An item as one JSON text beside an exported row, so that the row can come back as the same item."""

import json
from dataclasses import asdict, fields

from residency.platform.records import AnswerKind, Family, Item, Split

NAMES = {field.name for field in fields(Item)}


def item_to_json(item: Item, **more: object) -> str:
    """All fields of the item; ``more`` stands beside them and is not read back."""
    return json.dumps(asdict(item) | {"metadata": dict(item.metadata)} | more, ensure_ascii=False)


def item_of_json(text: str) -> Item | None:
    """The item of such a text; None where it is not of that form."""
    try:
        found = json.loads(text)
        known = {name: found[name] for name in NAMES}
        known |= {
            "split": Split(known["split"]),
            "answer_kind": AnswerKind(known["answer_kind"]),
            "family": Family(known["family"]),
            "media": tuple(map(str, known["media"])),
            "options": tuple(map(str, known["options"])),
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    texts = (*(known[name] for name in ("id", "content_key", "source", "licence", "cluster", "question", "answer")),)
    if not all(isinstance(text, str) for text in texts) or not isinstance(known["metadata"], dict):
        return None
    if known["patient_id"] is not None and not isinstance(known["patient_id"], str):
        return None
    return Item(**known)
