"""Choice: a letter, an option's text, or both. Several different options are wrong, none is an abstention."""

import re
from dataclasses import dataclass

from residency.platform.errors import DataError
from residency.platform.records import Item
from residency.platform.verifiers.chinese import chinese_answers, has_chinese
from residency.platform.verifiers.finding import Finding, right_or_wrong
from residency.platform.verifiers.negation import is_denied, last_match, may_deny
from residency.platform.verifiers.normal_form import (
    EDGES,
    LOOSE_HYPHEN,
    bare,
    mixes_scripts,
    normal_form,
    plain_text,
)
from residency.platform.verifiers.option_letters import named_letters
from residency.platform.verifiers.options import OptionReader, option_reader
from residency.platform.verifiers.retraction import is_disowned
from residency.platform.verifiers.short import meaning, readings

FINAL = re.compile(
    r"\b(?:final |correct |best |right |my )?(?:answer|choice|pick)(?: \w+)? (?:is|would be|must be|should be)\b"
    r"|\banswer:"
    r"|\b(?:therefore|thus|hence|in conclusion|in summary|overall|ultimately)\b|\bso\b[, ]"
    r"|\bi (?:would |will |'d |therefore )?(?:choose|pick|select|go with|say|opt)\b|\bi'd (?:go|say|pick|choose)"
    r"|答案[是为:]|答案应|故选|应选|因此|所以|我选|综上"
)
COMMITS_BEFORE = re.compile(
    r"(?:\b(?:it is|it's|this is|the image is|diagnosis is|the answer is|answer:) (?:a |an |the )?)$"
)
COMMITS_AFTER = re.compile(
    r"[)\]\"'.]{0,2} ?(?:is|would be|are|seems) (?:the |a |an |also |clearly |most |equally |just as )*"
    r"(?:correct|right|best|answer|true|acceptable|valid|good)"
)
WITH_ANOTHER = re.compile(
    r"\x00,? (?:and|or|plus|&|\+|/|as well as|vs\.?|versus) (?:a |an |the |possibly |maybe |also |some )*"
    r"(?!(?:not|it|is|this|there|no|therefore|thus|so|hence|we|that|its|he|she|they|one|has|shows?|can)\b)"
    r"(?:[\w-]+ ){0,2}[\w-]+(?= ?(?:$|[.,;)]))"
    r"|(?:^|\b(?:is|shows|both|either|of|see|suggests) )(?:a |an |the )?(?:[\w-]+ ){0,2}[\w-]+"
    r" (?:and|or|plus|&|\+|/|as well as|vs\.?|versus) (?:a |an |the )?\x00"
)
# A bare option with a further diagnosis, `acidosis with Wilson disease`; in a sentence it may be an explanation.
ADDED = re.compile(
    r"(?:a |an |the )?\x00+,? (?:with|complicated by|along with|together with|in addition to|superimposed on) "
)
SINGLE_LINE_FIRST = re.compile(r"^\W{0,4}([A-Za-z])\W{0,4}\n")
SINGLE_LINE_LAST = re.compile(r"\n\W{0,4}([A-Za-z])\W{0,4}$")
NOT_BESIDE = re.compile(r"\b(?:answer|option|therefore|so|not|is|hence)\b")
PLAIN_LEAD = re.compile(r"(?:the )?(?:final |correct |best |right )?answer(?: is:?|:) ")
LETTER_AND_TEXT = re.compile(r"[(\[]?([a-z])(?:[)\].:,]{1,2}| -) ?(.{2,})", re.DOTALL)
LETTERS_ONLY = re.compile(r"[a-h](?:[ ,;/&+|]+[a-h])+")
CHINESE_BEFORE = '是为选于在示见虑断乃即属像了到作用取或和与及有个项的成行做,.:;()" \0'
CHINESE_AFTER = '的因所,;.!是正对图这影项选或和与及检扫照片成而不错:()" \0也可最符。为吧'


@dataclass(slots=True)
class Mention:
    """Option ``index`` (its text, for display, where it is none) at ``start``:``end``."""

    index: int
    start: int
    end: int
    by_letter: bool
    leads: bool
    denied: bool = False


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether a Chinese option's text is no part of a longer word (`左肺` in `左肺上叶`)."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return (not before or before in CHINESE_BEFORE or before < "\u3400") and (
        not after or after in CHINESE_AFTER or after < "\u3400"
    )


def mentions_of(cased: str, text: str, reader: OptionReader, question: str) -> tuple[list[Mention], str]:
    """Every option that the text names, in its order, and the text with the named texts blanked."""
    mentions: list[Mention] = []
    pieces: list[str] = []
    done = 0
    for start, end, index in reader.named_in(text):
        if text[start] >= "\u3400" and not _stands_alone(text, start, end):
            continue
        leads = not text[:start].strip("([\"'*# ") or text[:start].rstrip(" ([\"'")[-1:] in tuple(".:;!?")
        mentions.append(Mention(index, start, end, False, leads))
        pieces += (text[done:start], "\0" * (end - start))
        done = end
    blanked = "".join((*pieces, text[done:])) if pieces else text
    for letter in named_letters(cased, blanked, len(reader.texts), reader.letter_texts):
        index = letter.option
        if not reader.letters or (index >= len(reader.texts) and index in reader.letter_texts):
            index = reader.letter_texts.get(index, -1)
        if index >= 0:
            mentions.append(Mention(reader.first(index), letter.start, letter.end, True, letter.leads))
    mentions.sort(key=lambda mention: mention.start)
    if not mentions:
        return mentions, blanked
    denies, no_is_an_option = may_deny(blanked), "no" in reader.by_text
    for mention in mentions:
        if denies and is_denied(blanked, mention.start, mention.end, no_is_an_option=no_is_an_option):
            opposite = reader.denied.get(mention.index)
            mention.denied = opposite is None
            mention.index = mention.index if opposite is None else opposite
        else:
            mention.denied = is_disowned(blanked, mention.start, mention.end, question)
    return mentions, blanked


def similar_option(normal: str, reader: OptionReader) -> int | None:
    """The option that the whole span means, in another spelling or by a synonym."""
    forms = chinese_answers(normal) if has_chinese(normal) else map(meaning, readings(normal, ""))
    found = {reader.by_form[form] for form in forms if form in reader.by_form}
    return found.pop() if len(found) == 1 else None


def final_option(text: str, mentions: list[Mention]) -> int | None:
    """The one option that stands after the last `the answer is …`, where nothing before it was committed to."""
    marker = last_match(FINAL.finditer(text))
    if marker is None:
        return None
    last = {mention.index for mention in mentions if mention.start >= marker.start() and not mention.denied}
    if len(last) != 1:
        return None
    (only,) = last
    for mention in mentions:
        if mention.start >= marker.start() or mention.denied or mention.index == only:
            continue
        head = text[max(0, mention.start - 48) : mention.start]
        if mention.leads or FINAL.search(head) or COMMITS_BEFORE.search(head):
            return None
        if COMMITS_AFTER.match(text, mention.end):
            return None
    return only


def plain_choice(core: str, reader: OptionReader) -> tuple[int | None, str] | None:
    """What a span in a common form names (`B`, the text, `(B) text`); None for a sentence."""
    exact = reader.by_text.get(core)
    if exact is None and "-" in core:
        exact = reader.by_text.get(LOOSE_HYPHEN.sub("-", core))
    if exact is not None:
        return exact, "the option's text"
    if len(core) == 1 and "a" <= core <= "z":
        letter = ord(core) - ord("a")
        if not reader.letters or letter >= len(reader.texts):
            return reader.letter_texts.get(letter, -1), "a letter that is no option's"
        return reader.first(letter), "the option's letter"
    if LETTERS_ONLY.fullmatch(core):
        return -1, "several letters"
    if reader.letters and (found := LETTER_AND_TEXT.fullmatch(core)):
        named, letter = reader.by_text.get(found[2].strip(EDGES)), ord(found[1]) - ord("a")
        if named is not None:
            same = letter < len(reader.texts) and reader.first(letter) == named
            return (named, "the option's letter and text") if same else (-1, "a letter and another option's text")
    return None


def read_choice(span: str, reader: OptionReader, question: str = "") -> tuple[int | None, str]:
    """The option that the span settles on and why; (None, why) for none and (-1, why) for several or an unknown one."""
    if "\n" in span:  # a letter with a line of its own, unless the whole is an option's text
        whole = reader.by_text.get(bare(plain_text(span).lower()))
        if whole is not None:
            return whole, "the option's text"
        span = SINGLE_LINE_LAST.sub(r". \1", SINGLE_LINE_FIRST.sub(r"\1. ", span))
    cased = plain_text(span)
    text = cased.lower()
    if len(text) != len(cased):
        cased = text
    core = bare(text)
    plain = plain_choice(core, reader)
    if plain is None and (lead := PLAIN_LEAD.match(core)):
        plain = plain_choice(core[lead.end() :].strip(EDGES), reader)
    if plain is not None:
        return plain
    if mixes_scripts(cased):
        return None, "letters of two scripts that look alike"
    mentions, blanked = mentions_of(cased, text, reader, question)
    named = {mention.index for mention in mentions if not mention.denied}
    if not named:
        similar = None if mentions else similar_option(normal_form(span), reader)
        return similar, "no option named" if similar is None else "the option's text in another spelling"
    if len(named) > 1 or not named.isdisjoint(mention.index for mention in mentions if mention.denied):
        final = final_option(blanked, mentions)
        if final is None:
            shown = sorted(reader.texts[i] if i < len(reader.texts) else f"letter {chr(97 + i)}" for i in named)
            return -1, f"several options named: {', '.join(shown)}" if len(
                named
            ) > 1 else f"names and denies {shown[0]!r}"
        if final >= len(reader.texts):
            return -1, f"letter {chr(97 + final)}, of which there is no option"
        return final, "the option after the last `answer is`"
    (only,) = named
    if only >= len(reader.texts):
        return -1, f"letter {chr(97 + only)}, of which there is no option"
    if any(mention.by_letter for mention in mentions if mention.index == only):
        return only, "the option's letter"
    if reader.longer[only] and not reader.longer[only].isdisjoint(re.findall(r"\w+", blanked)):
        return None, f"near to {reader.texts[only]!r}, with words of another option"
    beside = WITH_ANOTHER.search(blanked)
    if beside and not NOT_BESIDE.search(beside[0].strip("\0")):
        return -1, f"{reader.texts[only]!r} and something else: {beside[0].strip(chr(0))[:40]!r}"
    if ADDED.match(blanked):
        return -1, f"{reader.texts[only]!r} and something else"
    return only, "the option's text in a sentence"


def judge_choice(item: Item, span: str) -> Finding:
    """``item.answer`` is the right option's text; raises DataError where it is none of the options."""
    reader = option_reader(item.options)
    if item.answer in item.options:
        wanted = reader.first(item.options.index(item.answer))
    else:
        wanted = reader.by_text.get(bare(normal := normal_form(item.answer)) or normal)
    if wanted is None:
        raise DataError(
            f"the answer {item.answer!r} is none of the options {list(item.options)}", "the text of one option"
        )
    chosen, why = read_choice(span, reader, item.question)
    if chosen is None:
        return Finding(None, why)
    if chosen < 0:
        return Finding(0.0, why)
    return right_or_wrong(chosen == wanted, f"{why}: names {reader.texts[chosen]!r}, wanted {reader.texts[wanted]!r}")
