"""Short answers: equal after case, articles, punctuation, plural, spelling and synonyms are taken out."""

import re
from collections.abc import Iterable
from functools import lru_cache

from residency.platform.errors import DataError
from residency.platform.verifiers.finding import Finding, right_or_wrong
from residency.platform.verifiers.normal_form import normal_form, singular

FRAME = re.compile(r"^(?:(?:the |my )?(?:final )?answer(?: is)?:?|it is|it's|this is|there is|these are|they are) ")
WORDS = re.compile(r"[\w%+]+")
ARTICLES = frozenset(("a", "an", "the"))
SPELLINGS = {
    "colour": "color", "grey": "gray", "tumour": "tumor", "oedema": "edema", "anaemia": "anemia", "centre": "center",
    "oesophagus": "esophagus", "haemorrhage": "hemorrhage", "haematoma": "hematoma", "leukaemia": "leukemia",
    "ischaemia": "ischemia", "foetus": "fetus", "fibre": "fiber", "caecum": "cecum", "diarrhoea": "diarrhea",
    "haemorrhagic": "hemorrhagic", "oesophageal": "esophageal", "paediatric": "pediatric", "litre": "liter",
}  # fmt: skip
SYNONYMS = {
    ("x", "ray"): ("radiograph",), ("xray",): ("radiograph",), ("radiography",): ("radiograph",),
    ("mri",): ("mr",), ("magnetic", "resonance", "imaging"): ("mr",), ("magnetic", "resonance"): ("mr",),
    ("computed", "tomography"): ("ct",), ("cat", "scan"): ("ct",), ("sonography",): ("ultrasound",),
    ("us",): ("ultrasound",),
    ("right", "hand", "side"): ("right",), ("left", "hand", "side"): ("left",), ("right", "side"): ("right",),
    ("left", "side"): ("left",), ("red", "blood", "cell"): ("rbc",), ("white", "blood", "cell"): ("wbc",),
}  # fmt: skip


@lru_cache(maxsize=8192)
def short_form(text: str) -> tuple[str, ...]:
    """The words that count, in order, in one spelling."""
    words = WORDS.findall(FRAME.sub("", normal_form(text)))
    kept = [word for word in words if word not in ARTICLES] or words
    spelled = tuple(SPELLINGS.get(stem, stem) for stem in map(singular, kept))
    result: list[str] = []
    position = 0
    while position < len(spelled):
        for width in (3, 2, 1):
            meant = SYNONYMS.get(spelled[position : position + width])
            if meant is not None:
                result.extend(meant)
                position += width
                break
        else:
            result.append(spelled[position])
            position += 1
    return tuple(result)


def judge_short(answer: str, synonyms: Iterable[str], span: str) -> Finding:
    """``synonyms`` are further right answers that the dataset gives (``metadata["synonyms"]``)."""
    wanted = short_form(answer)
    if not wanted:
        raise DataError(f"the answer {answer!r} of a short question", "at least one word")
    said = short_form(span)
    if not said:
        return Finding(None, "no word said")
    if said == wanted:
        return Finding(1.0, f"equal to {' '.join(wanted)!r}")
    accepted = next((other for other in synonyms if short_form(other) == said), None)
    if accepted is not None:
        return Finding(1.0, f"equal to the dataset's synonym {accepted!r}")
    return right_or_wrong(False, f"says {' '.join(said)[:80]!r}, wanted {' '.join(wanted)!r}")
