"""Whether a mention in a text is denied: `not CT`, `neither A nor B`, `CT is excluded`; not `not only`, `no doubt`."""

import re
from collections.abc import Iterable

NO_DENIAL = re.compile(
    r"\b(?:no|not|without(?: any| a)?|beyond(?: any| a)?|little)"
    r" (?:a )?(?:doubt|question|only|just|surprising|surprisingly|unexpected|hesitation)\b|\bno longer\b|\bwhy not\b"
)
DENIAL_TEXT = (
    r"not|non|unless|never|neither|nor|none|without|unlike|exclud(?:e|es|ed|ing)|rul(?:e|es|ed|ing) out|rather than"
    r"|instead of|cannot|\w+n't|absence of|absent|negative for|free of|lacks?|lacking|lack of|unlikely|incorrect|wrong"
    r"|eliminat(?:e|es|ed|ing)|except|other than|(?:any|every)\w* but|all but|than|argues? against|reject(?:s|ed"
    r"|ing)?|against|false"
    r"|mimic(?:s|king|ked)|simulat(?:es|ing)|resembl(?:es|ing)|masquerad(?:es|ing)|den(?:y|ies|ied)|dismiss(?:es"
    r"|ed|ing)?"
)
DENIAL = re.compile(rf"\b(?:no|{DENIAL_TEXT})\b|不|没|无|非|未|排除|否|错|除了|除外")
DENIAL_BUT_NO = re.compile(rf"\b(?:{DENIAL_TEXT})\b|不|没有|无|非|未|排除|否|错|除了|除外")
BREAK = re.compile(
    r"[.;:!?](?!\d)|\b(?:but|however|although|though|while|whereas|because|since|therefore|thus|hence|so|then"
    r"|instead(?! of)|actually|making|which|is|are|was|were|shows?|suggests?|indicates?|has|have)\b"
    r"|而是|而为|但|因此|所以|应"
)
COMMA = re.compile(r", ?(?:and )?")
LIST = re.compile(r"\b(?:or|nor)\b|或")
NEW_SUBJECT = re.compile(r", (?:and )?(?:it|this|that|the|there|we|i|more|most|rather)\b|,而|,是")
AFTER = re.compile(
    r"(?:(?:, ?and |, ?| and | or )\(?[a-h]\b\)?){0,4}[)\]\"']{0,2}:? ?(?:,? ?(?:which )?(?:is|are|was|were"
    r"|seems?|looks?|appears?|can be|has been|would be|being|be)"
    r" (?:\w+ly )?(?:both |all |also |a |an |the )?"
    r"(?:not\b|less likely|least likely|unlikely|wrong|untrue|misleading|incorrect|false|excluded|ruled out"
    r"|absent|eliminated|out\b"
    r"|implausible|improbable|negative|inconsistent|rejected)"
    r"|(?:isn't|aren't|wasn't|doesn't|cannot|can't|do not|does not|did not|could not|would not|has no|have no)\b"
    r"|(?:wrong|incorrect|excluded|ruled out|unlikely|eliminated)\b"
    r"|(?:项|选项)? ?(?:是)?(?:不对|错误|错的|错|不正确|不是|不符|不成立|被排除|排除|除外|可排除|可以排除))"
)
REACH_BEFORE, REACH_AFTER = 72, 48  # characters
MAX_WORDS = 8  # between the denial and what it denies


def last_match(matches: Iterable[re.Match[str]]) -> re.Match[str] | None:
    """The last of them; None for none."""
    last = None
    for match in matches:
        last = match
    return last


def may_deny(text: str) -> bool:
    """Whether the lower-case text has a word of denial at all."""
    return DENIAL.search(text) is not None


def is_denied(text: str, start: int, end: int, *, no_is_an_option: bool = False) -> bool:
    """Whether ``text[start:end]`` is denied by what stands before or after it in its clause."""
    if AFTER.match(text, end, end + REACH_AFTER):
        return True
    head = NO_DENIAL.sub(lambda found: "·" * len(found[0]), text[max(0, start - REACH_BEFORE) : start])
    last = last_match((DENIAL_BUT_NO if no_is_an_option else DENIAL).finditer(head))
    if last is None:
        return False
    between = head[last.end() :]
    if BREAK.search(between) or NEW_SUBJECT.search(between) or between.count(" ") > MAX_WORDS:
        return False
    # `not ct, mr` denies one, `not ct, mr or us` all of the list
    return not COMMA.search(between) or LIST.search(text, start - len(between), end + REACH_AFTER) is not None
