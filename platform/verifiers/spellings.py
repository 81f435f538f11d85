"""One spelling of an English word where British and American differ; both sides of a comparison go through it."""

import re
import unicodedata

WORDS = {
    "grey": "gray", "disk": "disc", "artefact": "artifact", "programme": "program", "neurone": "neuron",
    "mould": "mold", "ageing": "aging", "licence": "license", "practise": "practice", "defence": "defense",
    "manoeuvre": "maneuver", "cheque": "check", "draught": "draft", "orthopaedic": "orthopedic",
    "calliper": "caliper", "whisky": "whiskey", "plough": "plow", "cosy": "cozy", "skilful": "skillful",
    "dilatation": "dilation", "acetabulae": "acetabulum", "anesthetise": "anesthetize",
}  # fmt: skip
KEEPS_OUR = frozenset(str.split("four hour pour contour flour your our tour sour detour"))
OUR = re.compile(r"our(?=$|ed$|ing$|al$|less$|ation$|able$)")
TRE = re.compile(r"(?<=cent|alib)re(?=$|d$)|(?<=lit|met|tit|fib|lus)re(?=$|d$)|(?<=theat)re$|(?<=spect)re$")
ISE = re.compile(r"(?<=[a-z]{2}[iy])s(?=e$|ed$|er$|ing$|ation$)")
ELL = re.compile(r"ell(?=ed$|ing$|er$)")
OGUE = re.compile(r"ogue$")
AE_OE = re.compile(r"(?:ae|oe)(?!$)")
MARKS = re.compile("[\u0300-\u036f]")


def without_accents(word: str) -> str:
    """``ménière`` → ``meniere``; marks that stand alone (struck-through letters) stay and make another word."""
    if word.isascii() or MARKS.search(word):
        return word
    return MARKS.sub("", unicodedata.normalize("NFD", word))


def one_spelling(word: str) -> str:
    """``tumour`` and ``tumor`` → ``tumor``, ``oedema`` and ``edema`` → ``edema``, ``localised`` → ``localized``."""
    if len(word) < 4:
        return word
    word = WORDS.get(without_accents(word), without_accents(word))
    if len(word) > 4:
        if "ae" in word or "oe" in word:
            word = AE_OE.sub("e", word)
        if "our" in word and word not in KEEPS_OUR:
            word = OUR.sub("or", word)
        if "re" in word:
            word = TRE.sub("er", word)
        if "s" in word:
            word = ISE.sub("z", word)
        if "ell" in word:
            word = ELL.sub("el", word)
        if "sulph" in word:
            word = word.replace("sulph", "sulf")
        word = OGUE.sub("og", word)
    return word
