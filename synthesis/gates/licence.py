"""The licence gate: what may be rewritten into training examples, by the licence's name as people write it.

Names and their terms: SPDX licence list and creativecommons.org. No-derivatives licences forbid to share what was
made out of the work, and a rewritten question with its reasoning is such; no licence at all means that nothing is
allowed.
"""

import re
from collections.abc import Collection
from functools import lru_cache

from residency.platform.records import Item
from residency.synthesis.gates.decision import GateDecision, marked, passed, refused

GATE = "licence"
SEPARATORS = re.compile(r"[\s_/,()\"'–—-]+")
CREATIVE = re.compile(
    r"\b(?:cc|creative commons)\b|(?<![a-z])by(?: nc)?(?: (?:nd|sa))\b"
    r"|creativecommons org|\battribution (?:no ?deriv|non ?comm|share ?alike|\d)"
)
VERSION = re.compile(r"\b(?:v(?:ersion)? ?)?([1-4]\.[05])\b")
NO_DERIVATIVES = re.compile(r"\bnd\b|\bno ?deriv\w*|\bwithout derivatives?\b|禁止演绎")
NON_COMMERCIAL = re.compile(r"\bnc\b|\bnon ?commercial\b|research (?:use )?only|academic use only|非商业")
SHARE_ALIKE = re.compile(r"\bsa\b|\bshare ?alike\b")
PUBLIC = re.compile(r"\bcc ?0\b|\bpublic domain\b|\bpddl\b|\bunlicense\b|\bno known copyright\b|\bpd\b")
OPEN = {
    "apache-2.0": r"\bapache(?: license| licence)?(?:,? ?(?:v(?:ersion)?)? ?2(?:\.0)?)?\b",
    "mit": r"\bmit(?: license| licence)?\b",
    "bsd": r"\bbsd(?: [023])?(?: clause)?\b",
    "odc-by-1.0": r"\bodc by\b|\bopen data commons attribution\b",
    "odbl-1.0": r"\bodbl\b|\bopen database licen[cs]e\b",
    "cdla": r"\bcdla\b|\bcommunity data license\b",
    "gpl": r"\bl?gpl\b|\bgnu general public\b",
    "isc": r"\bisc\b",
    "etalab-2.0": r"\betalab\b",
    "ogl": r"\bopen government licen[cs]e\b|\bogl\b",
}
SHUT = re.compile(r"\ball rights reserved\b|\bproprietary\b|\bno redistribution\b|\bnot? (?:be )?licensed\b")


@lru_cache(maxsize=4096)
def licence_name(text: str) -> str:
    """A canonical name: ``CC BY-NC-ND 4.0 International`` → ``cc-by-nc-nd-4.0``; "" where none is recognised.

    A text that names several licences gets the name of the narrowest.
    """
    plain = " ".join(SEPARATORS.sub(" ", text.casefold().replace("-nc", " nc").replace(".org", " org")).split())
    if SHUT.search(plain):
        return "all-rights-reserved"
    if CREATIVE.search(plain) and not re.search(r"\bcc ?0\b", plain):
        found = VERSION.search(plain)
        parts = ["cc-by"]
        parts += ["nc"] if NON_COMMERCIAL.search(plain) else []
        if NO_DERIVATIVES.search(plain):
            parts.append("nd")
        elif SHARE_ALIKE.search(plain):
            parts.append("sa")
        known = len(parts) > 1 or re.search(r"\bby\b|\battribution\b", plain)
        return "-".join([*parts, *([found[1]] if found else [])]) if known else ""
    if NO_DERIVATIVES.search(plain):
        return "no-derivatives"
    for name, pattern in OPEN.items():
        if re.search(pattern, plain):
            return name
    if PUBLIC.search(plain):
        return "cc0-1.0" if re.search(r"\bcc ?0\b", plain) else "public-domain"
    return "non-commercial" if NON_COMMERCIAL.search(plain) else ""


def licence_gate(item: Item, allowed: Collection[str] = ()) -> GateDecision:
    """Refuses what has no known licence, all rights reserved, or no derivatives, unless ``allowed`` names it.

    ``allowed`` is compared as written and by canonical name; "unknown" allows items without any. Non-commercial
    licences are marked.
    """
    text = item.licence.strip()
    name = licence_name(text)
    by_name = {each.strip().casefold() for each in allowed} | ({licence_name(each) for each in allowed} - {""})
    if text.casefold() in by_name or name in by_name or (not name and "unknown" in by_name):
        return passed(GATE, f"{text!r} is allowed by the recipe")
    if not name:
        return refused(GATE, "no licence" if text.casefold() in ABSENT else "unknown licence", repr(text))
    if name == "all-rights-reserved":
        return refused(GATE, "all rights reserved", repr(text))
    if NO_DERIVATIVES.search(name.replace("-", " ")):
        return refused(GATE, "a licence without derivatives", f"{text!r} is {name}")
    if "nc" in name.split("-") or name == "non-commercial":
        return marked(GATE, "non-commercial licence", f"{text!r} is {name}")
    return passed(GATE, name)


ABSENT = {"", "unknown", "none", "n/a", "na", "null", "-", "?", "not specified", "unspecified", "未知", "无"}
