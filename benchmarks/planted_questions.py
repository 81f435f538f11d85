"""Facts about pictures and cases, each asked in several ways: originals, rephrasings, and questions that only look
alike.

A rephrasing takes another phrasing of the same fact, then one to three changes as people make them (a polite opening,
capitals, punctuation, British spelling, a slip of the finger). Every picture also has questions with the same answer
that differ in one word (*liver*, *spleen*): those are not duplicates. The phrasings of the even and the odd seeds are
drawn from disjoint halves of each list but for the last, so that thresholds chosen on one seed meet other sentences
on the next.
"""

from dataclasses import dataclass

import numpy as np

ORGANS = str.split("liver spleen pancreas stomach bladder kidney heart aorta trachea esophagus colon duodenum thyroid"
    " cerebellum pons thalamus prostate uterus ovary gallbladder humerus femur tibia clavicle scapula sternum pelvis"
    " retina cornea cochlea")  # fmt: skip
FINDINGS = ("fracture", "mass", "effusion", "cyst", "hemorrhage", "calcification", "stenosis", "edema", "abscess",
    "thrombus", "aneurysm", "consolidation", "pneumothorax", "nodule", "ulcer", "polyp", "hernia", "infarct",
    "atrophy", "dilation")  # fmt: skip
ANSWERS = {
    "side": ("left", "right", "bilateral"), "count": tuple(str(n) for n in range(1, 8)),
    "margin": ("smooth", "spiculated", "lobulated", "irregular"),
    "density": ("hypodense", "hyperdense", "isodense", "mixed"),
    "modality": ("CT", "MRI", "ultrasound", "x-ray"), "plane": ("axial", "coronal", "sagittal"),
    "disease": ("pneumonia", "tuberculosis", "sarcoidosis", "lymphoma", "melanoma", "cirrhosis", "colitis", "gout"),
    "present": ("yes", "no"), "normal": ("yes", "no"),
}  # fmt: skip
ASKED = {
    "present": ("Is there a {f} in the {o}?", "Does the {o} show a {f}?", "Can a {f} be seen in the {o}?",
        "Is a {f} of the {o} present in this image?", "In the {o}, is there any evidence of a {f}?",
        "Do you notice a {f} within the {o}?"),
    "normal": ("Is the {o} normal in size?", "Does the {o} have a normal size?", "Is the size of the {o} normal?",
        "Would you say that the {o} is of normal size?"),
    "side": ("On which side is the {f} of the {o}?", "Which side of the {o} shows the {f}?",
        "What side is the {f} of the {o} on?", "The {f} of the {o} lies on which side?"),
    "count": ("How many {f}s are there in the {o}?", "What is the number of {f}s in the {o}?",
        "Count the {f}s seen in the {o}.", "In the {o}, how many {f}s can be counted?"),
    "margin": ("What is the margin of the {f} in the {o}?", "Describe the margin of the {f} in the {o}.",
        "Which margin does the {f} in the {o} have?", "How would you describe the margin of the {o} {f}?"),
    "density": ("What is the density of the {f} in the {o}?", "Which density does the {f} of the {o} show?",
        "Describe the density of the {f} seen in the {o}.", "The {f} in the {o} has what density?"),
    "modality": ("Which imaging modality was used?", "What modality is this image?",
        "What kind of scan is shown here?", "By what imaging technique was this picture taken?"),
    "plane": ("In which plane is this image?", "What plane was this image acquired in?",
        "Which imaging plane is shown?", "What is the plane of this scan?"),
    "disease": ("What is the most likely diagnosis?", "Which disease is shown in this image?",
        "What condition does the patient most probably have?", "Name the most likely diagnosis for this patient."),
}  # fmt: skip
SYMPTOMS = ("fever", "cough", "dyspnea", "hemoptysis", "jaundice", "pruritus", "vomiting", "diarrhea", "headache",
    "syncope", "palpitations", "arthralgia", "rash", "dysuria", "hematuria", "dysphagia", "vertigo", "tinnitus",
    "diplopia", "ataxia", "tremor", "insomnia", "anorexia", "hoarseness", "epistaxis")  # fmt: skip
HISTORIES = ("smoking", "hypertension", "asthma", "migraine", "psoriasis", "gastrectomy", "hepatitis", "travel abroad",
    "alcohol use", "renal stones", "epilepsy", "hypothyroidism", "splenectomy", "gout", "anemia")  # fmt: skip
SIGNS = ("crackles", "hepatomegaly", "clubbing", "papilledema", "wheezing", "a systolic murmur", "ascites", "nystagmus",
    "spider angiomas", "lymphadenopathy", "cyanosis", "a pericardial rub", "hyperreflexia", "goiter")  # fmt: skip
LABS = ("sodium", "potassium", "calcium", "creatinine", "bilirubin", "albumin", "ferritin", "lipase", "glucose")
CASES = (
    "A {age}-year-old {sex} presents with {s1} and {s2} for {days} days. There is a history of {h}."
    " Examination shows {x}. {lab} is {v}. What is the most likely diagnosis?",
    "A {sex} aged {age} years with a history of {h} has had {s1} and {s2} for {days} days."
    " On examination there is {x}; {lab} is {v}. Which diagnosis is most likely?",
    "For {days} days a {age}-year-old {sex}, history of {h}, has suffered from {s1} and {s2}. {lab}: {v}."
    " Examination: {x}. What diagnosis is most probable?",
)
OPENINGS = ("Please answer: ", "Look at the image. ", "Based on the image, ", "Question: ", "Can you tell me: ", "Hi! ")
CLOSINGS = (" Please answer briefly.", " Thanks.", " (one answer)", "")
BRITISH = {"edema": "oedema", "hemorrhage": "haemorrhage", "esophagus": "oesophagus", "dilation": "dilatation",
    "anemia": "anaemia", "diarrhea": "diarrhoea", "hemoptysis": "haemoptysis"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that can be asked: of a picture its kind and words, of a case its slots."""

    kind: str
    words: tuple[str, ...]
    answer: str


def picture_facts(rng: np.random.Generator, number: int) -> list[Fact]:
    """``number`` different facts of one picture."""
    found: dict[tuple[str, ...], Fact] = {}
    kinds = list(ASKED)
    while len(found) < number:
        kind = kinds[int(rng.choice(len(kinds), p=(0.3, 0.12, 0.12, 0.1, 0.1, 0.1, 0.06, 0.05, 0.05)))]
        organ = ORGANS[int(rng.integers(len(ORGANS)))] if kind not in ("modality", "plane", "disease") else ""
        finding = FINDINGS[int(rng.integers(len(FINDINGS)))] if organ and kind != "normal" else ""
        answers = ANSWERS[kind]
        answer = answers[int(rng.integers(len(answers)))]
        found.setdefault((kind, organ, finding), Fact(kind, (organ, finding), answer))
    return list(found.values())


def case_fact(rng: np.random.Generator) -> Fact:
    """A case without a picture."""
    s1, s2 = rng.choice(SYMPTOMS, 2, replace=False)
    slots = (str(rng.integers(18, 90)), str(rng.choice(("man", "woman"))), s1, s2, str(rng.integers(2, 30)),
        str(rng.choice(HISTORIES)), str(rng.choice(SIGNS)), str(rng.choice(LABS)),
        f"{rng.uniform(0.2, 160):.1f}")  # fmt: skip
    return Fact("case", tuple(map(str, slots)), str(rng.choice(ANSWERS["disease"])))


def phrasings(kind: str, seed: int) -> tuple[str, ...]:
    """The phrasings of this seed: half of the list and the last one."""
    every = CASES if kind == "case" else ASKED[kind]
    return (*every[seed % 2 : -1 : 2], every[-1])


def ask(fact: Fact, phrasing: str) -> str:
    """The question in this phrasing."""
    if fact.kind == "case":
        names = ("age", "sex", "s1", "s2", "days", "h", "x", "lab", "v")
        text = phrasing.format(**dict(zip(names, fact.words, strict=True)))
        return text[0].upper() + text[1:]
    return phrasing.format(o=fact.words[0], f=fact.words[1])


def rephrased(fact: Fact, asked: str, rng: np.random.Generator, seed: int) -> str:
    """The same question as somebody else would have written it; always other text than ``asked``."""
    others = [text for each in phrasings(fact.kind, seed) if (text := ask(fact, each)) != asked]
    return written_otherwise(others[int(rng.integers(len(others)))] if others else asked, rng, sure=not others)


def written_otherwise(text: str, rng: np.random.Generator, sure: bool = True) -> str:
    """Up to three changes that leave the meaning alone; at least one where ``sure``."""
    changed = text
    for _ in range(int(rng.integers(1 if sure else 0, 4))):
        match int(rng.integers(6)):
            case 0:
                changed = OPENINGS[int(rng.integers(len(OPENINGS)))] + changed
            case 1:
                changed = changed.lower() if rng.random() < 0.5 else changed.upper()
            case 2:
                changed = changed.rstrip("?.") + str(rng.choice(("", " ?", "??", ".", "…")))
            case 3:
                changed += CLOSINGS[int(rng.integers(len(CLOSINGS)))]
            case 4:
                for american, british in BRITISH.items():
                    changed = changed.replace(american, british)
            case _:
                changed = _slip(changed, rng)
    return changed if changed != text or not sure else f"{text} "


def _slip(text: str, rng: np.random.Generator) -> str:
    """Two letters within a long word change places."""
    words = text.split(" ")
    long = [place for place, word in enumerate(words) if len(word) > 7 and word.isalpha()]
    if not long:
        return text
    place = long[int(rng.integers(len(long)))]
    word = words[place]
    at = int(rng.integers(2, len(word) - 3))
    words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)
