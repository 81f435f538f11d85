"""Which option letters a text names: `(b)`, `B.`, `the answer is B`, `A or B`, `选B`; not the article in `a nodule`."""

import re
from collections.abc import Container
from typing import NamedTuple

SINGLE = re.compile(r"(?<![\w'\-^/.])[A-Za-z](?![\w'^])|(?<=[A-Za-z]/)[A-Za-z](?![\w'/])", re.ASCII)
LED = re.compile(
    r"(?:\b(?:answer|choice|option|letter|alternative)s?(?: (?:is|was|are|would be|must be|should be|seems to be"
    r"|will be))?"
    r"(?: (?:therefore|thus|clearly|most likely|probably|likely|definitely))?(?: ?[:=])?"
    r"|\b(?:choose|chose|select|selected|pick|picked|mark|go(?:ing)? with|opt for|settle on|i say|i'd say|i would say)"
    r"|(?:答案|选项|选择|选|故|项|答)(?: ?(?:是|为|应为|应该是|应是|应选|:|选))*)"
    r"(?: (?:option|choice|letter|answer))? ?[(\[\"'*:]*$"
)
OPTION_WORD = re.compile(r"\b(?:options?|choices?|letter|alternative) ?[(\[\"'*:]*$|选项? ?[(\"']*$")
NAMED_THING = re.compile(
    r"\b(?:vitamins?|hepatitis|types?|groups?|proteins?|factors?|grades?|stages?|class|category|level|zone"
    r"|segment|plan|"
    r"patient|panels?|figures?|series|points?|arrows?|labell?ed|structures?|regions?|areas?|markers?|influenza"
    r"|immunoglobulin|"
    r"stanford|child-pugh|weber|lines?|leads?|strep|streptococcus|antigen|hemoglobin|haemoglobin|room|case|study"
    r"|image|t|b)"
    r" ?[(\[\"']?$"
)
COMPOUND = re.compile(r"-[a-z]{2,}")  # `D-dimer`
THING_AFTER = re.compile(
    r"[ -](?:cells?|lymphocytes?|lines?|waves?|spine|sections?|symptoms?|scan|mode|virus|antigen|band)\b"
)
DELIMITED = re.compile(r"[)\]\"'*]{0,3} ?(?:$|[.):,;/&=?!|]|\]|- |\(|\x00|[\u3400-\u9fff])")
VERB = re.compile(
    r" (?:is|was|would|seems|because|since|as|and|or|it|looks|fits|best|matches|describes|due|based|but|not"
    r"|rather|given"
    r"|appears|must|should|for|over|vs|versus|can|with|which|are|here|correct|right|wrong)\b"
)
SURE_AFTER_A = re.compile(
    r" (?:rather|not|but|instead|is|was|would|seems|because|since|and|or|looks|fits|vs|versus|over|must|are|isn't)\b"
)
JOINED = re.compile(
    r"(?:^|[^\w])[a-z][)\]\"']?(?: ?[,/&;+|] ?|,? (?:and|or|nor|vs|versus|to|then|maybe|perhaps) )(?:maybe "
    r"|either )?(?:option )?[(\[\"']?$"
)
STARTS = re.compile(r"(?:^|[.:;!?\x00]) ?[(\[\"'*#]*$")
REACH = 48


class NamedLetter(NamedTuple):
    """Option number ``option`` is named at ``start``:``end``; ``leads``: the letter opens the text or a sentence."""

    option: int
    start: int
    end: int
    leads: bool


def named_letters(cased: str, text: str, num_options: int, texts: Container[int] = ()) -> list[NamedLetter]:
    """The letters that stand as option letters in ``text`` (lower case; mentions of option texts blanked with \\0).

    ``cased`` is the same text with capitals. A letter beyond the options counts where it is called an option.
    ``texts`` are letters that are themselves the text of an option (`grade I`).
    """
    named: list[NamedLetter] = []
    capitals = cased.isupper()
    end_of_last = -1
    for found in SINGLE.finditer(text):
        start, end = found.span()
        index = ord(found[0]) - ord("a")
        before, after = text[max(0, start - REACH) : start], text[end : end + REACH]
        opens = STARTS.search(before) is not None
        if index in texts and NAMED_THING.search(before):
            named.append(NamedLetter(index, start, end, opens))
            continue
        if _is_letter(
            found[0],
            cased[start],
            before,
            after,
            opens,
            index < num_options or index in texts,
            start - end_of_last < 16,
            capitals,
        ):
            named.append(NamedLetter(index, start, end, opens))
            end_of_last = end
    return named


def _is_letter(
    low: str, written: str, before: str, after: str, opens: bool, in_range: bool, near: bool, capitals: bool
) -> bool:
    delimited = DELIMITED.match(after) is not None
    led = LED.search(before) is not None
    if not in_range:
        return delimited and low < "k" and (led or (opens and not before.strip("([\"'*# ")))
    if OPTION_WORD.search(before):
        return True
    if not opens and NAMED_THING.search(before):
        return False
    if THING_AFTER.match(after) or COMPOUND.match(after):
        return False
    if near and JOINED.search(before):
        return low != "a" or delimited or SURE_AFTER_A.match(after) is not None
    if low == "a":  # an article, unless something speaks against it
        if written == "A" and led and not capitals:
            return True
        article = not delimited or (after.startswith(" \0") and not (written == "A" and led))
        if article and not SURE_AFTER_A.match(after):
            return False
        return led or opens or written == "A" or before[-1:] in ("(", "[")
    if led or before[-1:] in ("(", "[") or (before[-1:] in "\"'" and before and after[:1] == before[-1:]):
        return True
    if opens and (delimited or VERB.match(after)):
        return True
    return written.isupper()
