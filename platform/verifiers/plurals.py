"""The singular of an English word, with the Latin and Greek plurals of medicine."""

IRREGULAR = {
    "feet": "foot", "teeth": "tooth", "women": "woman", "men": "man", "children": "child", "halves": "half",
    "calves": "calf", "leaves": "leaf", "knives": "knife", "lenses": "lens", "biopsies": "biopsy",
    # -a of -um and -on; most words in -a are singular, so these are listed
    "atria": "atrium", "septa": "septum", "diverticula": "diverticulum", "hila": "hilum", "bacteria": "bacterium",
    "ova": "ovum", "sera": "serum", "labia": "labium", "ostia": "ostium", "ganglia": "ganglion", "ilia": "ilium",
    "sterna": "sternum", "cilia": "cilium", "media": "medium", "epithelia": "epithelium", "acetabula": "acetabulum",
    "criteria": "criterion", "phenomena": "phenomenon", "mediastina": "mediastinum", "ischia": "ischium",
    "endothelia": "endothelium", "capitula": "capitulum", "tubercula": "tuberculum", "frenula": "frenulum",
    "femora": "femur", "corpora": "corpus", "viscera": "viscus", "foramina": "foramen", "lumina": "lumen",
    "abdomina": "abdomen", "crura": "crus", "genera": "genus", "glomera": "glomus", "pleurae": "pleura",
    # -ices, -ges, -des
    "appendices": "appendix", "cervices": "cervix", "cortices": "cortex", "apices": "apex", "vertices": "vertex",
    "indices": "index", "matrices": "matrix", "varices": "varix", "calices": "calix", "helices": "helix",
    "calyces": "calyx", "phalanges": "phalanx", "larynges": "larynx", "pharynges": "pharynx", "irides": "iris",
    "epididymides": "epididymis", "arthritides": "arthritis", "meninges": "meninges", "coccyges": "coccyx",
    "thoraces": "thorax", "pelves": "pelvis", "testes": "testis", "penes": "penis", "pubes": "pubis", "axes": "axis",
    "metastases": "metastasis", "stases": "stasis", "hemostases": "hemostasis", "bases": "base", "crises": "crisis",
    "diureses": "diuresis", "pareses": "paresis", "prostheses": "prosthesis", "syntheses": "synthesis",
    "hypotheses": "hypothesis", "parentheses": "parenthesis", "analyses": "analysis", "lyses": "lysis",
    "paralyses": "paralysis", "epiphyses": "epiphysis", "diaphyses": "diaphysis", "metaphyses": "metaphysis",
    "apophyses": "apophysis", "symphyses": "symphysis", "synechiae": "synechia", "carcinomata": "carcinoma",
    "mammae": "mamma",
}  # fmt: skip
UNCHANGED = frozenset(
    str.split(
        "biceps triceps quadriceps forceps diabetes herpes rabies caries scabies series species ascites"
        " lens mumps measles rickets shingles hives facies feces faeces pancreas gas atlas bias alias"
        " texas christmas always perhaps whereas yes this as is was has does its hiatus les gallus"
        " sometimes besides mrs aids sars mers copd pus us"
    )
)
SIBILANTS = ("sses", "xes", "ches", "shes", "zzes")
KEEPS_E = frozenset(str.split("causes pauses uses houses fuses spouses aches headaches toothaches axes caches"))
OSES = frozenset(str.split("noses doses hoses roses poses loses closes"))
ENDS_IN_I = frozenset(str.split(
        "bronchi thrombi emboli nuclei foci fungi bacilli cocci alveoli calculi fundi humeri radii uteri"
        " hippocampi gyri sulci thalami stimuli tori rami nevi naevi loci villi annuli menisci ureteri"
        " tali tarsi streptococci staphylococci pneumococci meningococci enterococci colliculi cuniculi"
        " ductuli globi hili malleoli canaliculi vagi nervi musculi digiti"
    ))  # fmt: skip


def singular(word: str) -> str:
    """``vertebrae`` → ``vertebra``, ``nodules`` → ``nodule``; ``mass``, ``pelvis`` and ``fetus`` stay."""
    if len(word) < 4 or word[-1] not in "saietn":
        return word
    irregular = IRREGULAR.get(word)
    if irregular is not None:
        return irregular
    last = word[-1]
    if last != "s":
        if last == "e":
            return word[:-1] if word.endswith("ae") and len(word) > 4 else word
        if last == "i":
            return word[:-1] + "us" if word in ENDS_IN_I else word
        if last == "a":
            return word[:-2] if word.endswith("mata") and len(word) > 6 else word
        return word
    if word in UNCHANGED or word[-2] in "siu'":
        return word
    if word.endswith("thoraces"):
        return word[:-3] + "x"
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > 4 else word[:-1]
    if word.endswith(SIBILANTS):
        return word[:-1] if word in KEEPS_E else word[:-2]
    if word.endswith("uses") and word not in KEEPS_E:
        return word[:-2]
    if word.endswith("oses") and word not in OSES:
        return word[:-2] + "is"
    return word[:-1]
