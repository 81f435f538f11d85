"""Yes or no, as a word or as a sentence that answers the question; `normal` is no `no`, and both together are wrong.

A sentence is compared with the question: `there is no fracture` says no to `is a fracture present?` and nothing to
`is a tumour present?`. A statement and a question that are both denied agree (`is it absent?` – `it is not seen`: yes).
"""

import re
from functools import lru_cache
from typing import NamedTuple

from residency.platform.errors import DataError
from residency.platform.records import Item
from residency.platform.verifiers.chinese_yes_no import said_in_chinese
from residency.platform.verifiers.finding import Finding, right_or_wrong
from residency.platform.verifiers.normal_form import HAS_CHINESE, bare, mixes_scripts, normal_form, plain_text
from residency.platform.verifiers.plurals import singular
from residency.platform.verifiers.retraction import is_disowned
from residency.platform.verifiers.spellings import one_spelling

YES_TEXTS = (
    "yes,y,true,yeah,yep,yup,correct,affirmative,是,是的,有,有的,对,对的,正确,存在,可见,能,会"
    ",可以,属于,真,yes it is,yes it does,yes there is,yes there are,it is,it does,they are"
    ",they do,there is,there are,it is present,it is seen,it has,indeed,certainly,definitely,absolutely,of course,sure"
    ",surely,for sure"
)
NO_TEXTS = (
    "no,n,false,nope,nah,incorrect,否,不,不是,不是的,没有,没,无,不对,错,错误,不正确,不存在,未见"
    ",不能,不会,不可以,不属于,假,没有的,否定,并非,并不是,并没有,certainly not,definitely not,absolutely not"
    ",of course not,not at all,surely not,by no means,it is not,it does not,they are not,they do not"
)
GOLD = {"yes": "yes", "no": "no", "true": "yes", "false": "no", "y": "yes", "n": "no"} | {
    "是": "yes", "是的": "yes", "有": "yes", "对": "yes", "否": "no",
    "不是": "no", "没有": "no", "无": "no", "不": "no",
}  # fmt: skip
WHOLE = {text: "yes" for text in YES_TEXTS.split(",")} | {text: "no" for text in NO_TEXTS.split(",")}
# Alone these answer only a question about presence that is not itself denied.
WHOLE_OF_PRESENCE = {
    "present": "yes", "visible": "yes", "positive": "yes", "seen": "yes", "absent": "no", "negative": "no",
    "not present": "no", "not seen": "no", "not visible": "no", "not visualized": "no", "none seen": "no",
    "not identified": "no", "not there": "no", "not evident": "no", "no evidence": "no",
}  # fmt: skip
WORD = re.compile(r"(?<![\w-])(?:(yes|yeah|yep)|(no|nope))(?![\w-]|\.? ?1 )")
DENIED = re.compile(r"(?:\bnot|n't|\bnever|\bcannot|\bneither|\bnor|\bthan|\binstead of)(?: \w+){0,2} (?:a )?[\"']?$")
DENIED_AFTER = re.compile(
    r"[\"')]{0,2} (?:is|was|would be|seems) (?:\w+ly )?(?:the |a )?(?:wrong|incorrect|false|not|"
    r"inappropriate|misleading|excluded|untrue)"
)
EITHER = re.compile(
    r"\byes[\"']? ?(?:or|and|nor|[/|&,?]|vs\.?) ?[\"']?no\b|\bno[\"']? ?(?:or|and|nor|[/|&,?]|vs\.?) ?[\"']?yes\b"
)
ALONE = re.compile(
    r"[\"']? ?(?:$|[.,;:!?)\"'<\]|/-]|or\b|and\b|it(?:'s)?\b|there(?:'s)?\b|this\b|that\b|the\b|they\b|because\b"
    r"|since\b|as\b|i\b"
    r"|based\b|given\b|is\b|are\b|but\b|these\b|yes\b|no\b)"
)
TRUTH = re.compile(
    r"^(?:(?:so|therefore|thus|hence),? )?(?:this|that|it|the (?:statement|claim|assertion|proposition))(?: is|'s)"
    r"( not| in)? ?(?:definitely |clearly |absolutely )?(true|correct|right|accurate|the case|false|incorrect"
    r"|wrong|untrue)$"
)
PRONOUN = re.compile(
    r"^(?:(?:so|therefore|thus|hence|indeed|certainly|definitely|surely|clearly|absolutely|of course|sure),? )?(?:it"
    r"|there|this|that|they|these|those|one|such)"
    r"(?: (?:is|are|was|were|does|do|did|has|have|can|could)( not| no| none)?(?: (?:clearly |definitely )?"
    r"(?:seen|present|visible|there|evident|visualized|identified|noted|one|found|any|shown|so|be seen|be identified))?"
    r"|(?: (?:is|are|was|were))? (absent|lacking|missing)| (isn't|aren't|wasn't|weren't|doesn't|don't|didn't"
    r"|hasn't|can't be seen))"
    r"(?: (?:present|seen|visible|any|one|there|evident))?(?: indeed)?$"
)
NOT_DENIAL = re.compile(
    r"\b(?:no|without(?: a| any)?|beyond(?: a| any)?|little) (?:doubt|question)(?: that)?|\bnot only\b"
    r"|\bnot just\b|\bno other\b"
    r"|\bno longer\b|\bno further\b|\bno additional\b|\bnot uncommon\b"
)
HEDGED = re.compile(
    r"\b(?:cannot|can't|can not|could not|not|impossible to|difficult to"
    r"|hard to) (?:be )?(?:\w+ly )?(?:entirely |fully )?"
    r"(?:exclud|rul|confirm|determin|assess|evaluat|certain|sure|clear|miss(?!i)|overlook|ignor"
    r"|deny|denied|dismiss|tell|help)\w*|\b(?:possibl[ey]|may|might|could(?!n't| not)|maybe|perhaps|hardly|barely"
    r"|scarcely|doubt|doubtful|doubts|questionable|equivocal|wrongly|mistakenly|erroneously|suspect|suspected|sought"
    r"|(?:looked|searched|asked|looking|searching) for)\b|\bif\b|\bunless\b"
    r"|\bwhether\b"
)
DENIALS = frozenset(
    str.split(
        "no not none never without absent absence negative lack lacks lacking neither nor cannot"
        " unremarkable missing exclude excludes excluded denies isn't aren't wasn't weren't doesn't don't"
        " didn't hasn't haven't nothing denied can't couldn't wouldn't won't hadn't fail fails failed"
        " unlikely improbable"
    )
)
PREFIXED = {"abnormal": "normal", "asymmetric": "symmetric", "asymmetrical": "symmetrical",
            "irregular": "regular", "unenlarged": "enlarged", "incomplete": "complete", "uncomplicated": "complicated",
            "unilateral": "bilateral", "asymptomatic": "symptomatic", "unchanged": "changed"}  # fmt: skip
OPPOSITES: dict[str, str] = {}
OPPOSITE_PAIRS = (
    "left right,upper lower,superior inferior,anterior posterior,medial lateral,benign malignant,male"
    " female,acute chronic"
    ",axial coronal,solid cystic,increased decreased,hyperintense hypointense,hyperdense hypodense,open closed,ct mri"
    ",pa ap,enlarged small,proximal distal,unilateral bilateral,wide narrow,high low,thick thin,dilated narrowed"
)
for _pair in OPPOSITE_PAIRS.split(","):
    _one, _other = _pair.split()
    OPPOSITES |= {_one: _other, _other: _one}
NORMAL = frozenset(("normal",))
BOTH_SIDES = frozenset(("bilateral", "both"))
GENERIC = frozenset(
    str.split(
        "a an the is are was were be been being in on of at to and or any there this that these those it"
        " its seen see show shown shows showing image picture scan film photo photograph figure slide"
        " study radiograph evidence sign signs indication present presence visible visualize visualized"
        " visualise identified identify evident noted observed demonstrate demonstrated depict depicted"
        " display displayed found find finding detected detect do does did has have had can could would"
        " will you patient for with from by here appear appears suggest suggestive suggesting indicate"
        " indicates consistent contain contains exist exists obvious clear clearly definite significant"
        " apparent definitely large small some we i what does particular given such one as so also reveal"
        " revealed reveals consider considered which within answer yes question statement true false"
        " apparently overall therefore thus hence actually indeed currently today who where likely"
        " probably most look looks looking like discernible appreciable appreciated recognizable"
    )
)
EMPTY_NOUNS = frozenset(str.split("abnormality anomaly pathology lesion such sign evidence indication finding change"))
OF_IT = re.compile(
    r"(?:(?:so|therefore|thus|hence),? )?(?:it|they|this|that|these|those)(?:'s| is| are| was| were| does| do"
    r"| has| have)\b"
)
PRESENCE = re.compile(
    r"\b(?:present|seen|visible|evident|there (?:is|are|was|were)|identified|noted|observed|detected|found"
    r"|demonstrated)\b"
)
CLAUSE = re.compile(
    r"[.;!?](?![0-9])|, (?=(?:and |so |as |which )?(?:it|there|this|that|the|they|i|we|a|an|no|not|but|with)\b)"
    r"|\b(?:but|however|although|though|while|whereas|because|since|therefore|thus|hence)\b,?|:"
)
TOKEN = re.compile(r"[a-z0-9'%]+(?:-[a-z0-9]+)*|/")


class Statement(NamedTuple):
    """Content words of a clause or question, and whether it is denied an odd number of times."""

    words: frozenset[str]
    denied: bool
    last: str  # the last content word, in a question most often what is asked about its subject


@lru_cache(maxsize=65536)
def content_word(word: str) -> str:
    """One spelling of a word that says something; empty for one that does not."""
    word = word.removesuffix("'s")
    stem = one_spelling(singular(word))
    return "" if word in GENERIC or stem in GENERIC else stem


def statement(text: str) -> Statement:
    words: set[str] = set()
    denied = False
    last_denial = -9
    last = ""
    tokens = TOKEN.findall(text)
    for position, token in enumerate(tokens):
        if token in DENIALS or (token == "free" and tokens[position + 1 : position + 2] in (["of"], ["from"])):
            # `not … nor`, `no … or no` deny once; `not absent` twice
            if token in ("nor", "neither", "no") and position - last_denial < 12 and last_denial >= 0:
                continue
            denied = not denied
            last_denial = position
            continue
        if token in PREFIXED:
            denied = not denied
            token = PREFIXED[token]
        if token.startswith("non-") and len(token) > 5:
            denied = not denied
            token = token[4:]
        if stem := content_word(token):
            words.update(stem.split("-"))
            last = stem.rpartition("-")[2]
    return Statement(frozenset(words), denied, last)


@lru_cache(maxsize=8192)
def asked(question: str) -> Statement:
    """The content words of the last sentence of the question; what stands before it is context."""
    normal = bare(normal_form(question))
    sentences = [piece for piece in re.split(r"(?<=[.!?;]) ", normal) if piece]
    return statement(NOT_DENIAL.sub(" ", sentences[-1] if sentences else normal))


def clause_says(clause: str, question: Statement) -> str | None:
    """yes or no where the clause is a statement on what was asked; None where it is not."""
    clause = bare(NOT_DENIAL.sub(" ", clause))
    if not clause or HEDGED.search(clause):
        return None
    if truth := TRUTH.match(clause):
        wrong = truth[2] in ("false", "incorrect", "wrong", "untrue")
        return "no" if wrong != bool(truth[1]) else "yes"
    if not question.denied:
        if pronoun := PRONOUN.match(clause):
            return "no" if pronoun[1] or pronoun[2] or pronoun[3] else "yes"
        if (of_presence := WHOLE_OF_PRESENCE.get(clause)) is not None:
            return of_presence
    said = statement(clause)
    if not question.words:
        return None
    if said.words == NORMAL and question.words >= NORMAL:
        return "yes" if said.denied == question.denied else "no"
    missing = question.words - said.words
    foreign = said.words - question.words
    flips = {word for word in missing if OPPOSITES.get(word) in foreign}
    if flips:
        if len(flips) > 1 or said.denied or question.denied or not (len(missing) == 1 or OF_IT.match(clause)):
            return None
        return "no"
    if any(OPPOSITES.get(word) in question.words for word in foreign) or BOTH_SIDES & foreign:
        return None
    if not missing:
        return "yes" if said.denied == question.denied else "no"
    if not foreign and said.words and not said.denied and not question.denied and not (missing & OPPOSITES.keys()):
        if question.last in said.words and (OF_IT.match(clause) or len(clause.split()) <= 2):
            return "yes"  # `it is malignant`
        if PRESENCE.search(clause) and 2 * len(said.words) >= len(question.words):
            return "yes"  # `blast cells are seen` where the question says in which picture
    if said.denied and not question.denied:
        if said.words & question.words and not (
            foreign and len(said.words & question.words) == 1 and len(question.words) > 2
        ):
            return "no"
        if said.words and said.words <= EMPTY_NOUNS:
            return "no"
    return None


def without_questions(text: str) -> str:
    """The text without the sentences that end in a question mark: they state nothing."""
    if "?" not in text:
        return text
    *asked_pieces, last = text.split("?")
    kept = [piece[: max(piece.rfind("."), piece.rfind("!"), piece.rfind(";")) + 1] for piece in asked_pieces]
    return " ".join((*kept, last))


def words_said(text: str) -> set[str]:
    """yes and no where they stand alone as words (`no` before a noun does not)."""
    found_words: set[str] = set()
    for found in WORD.finditer(text):
        if DENIED.search(text, max(0, found.start() - 28), found.start()) or DENIED_AFTER.match(text, found.end()):
            continue
        if is_disowned(text, found.start(), found.end()):
            continue
        if found[1]:
            found_words.add("yes")
        elif ALONE.match(text, found.end()):
            found_words.add("no")
    return found_words


def said(text: str, question: str) -> tuple[set[str], str]:
    """Which of yes and no the text says, and by which rule."""
    core = bare(text)
    whole = WHOLE.get(core)
    if whole is not None:
        return {whole}, "the word"
    if HAS_CHINESE.search(text):
        return said_in_chinese(text, question)
    if EITHER.search(text):
        return {"yes", "no"}, "yes or no"
    words = words_said(text)
    rest = (
        WORD.sub(lambda found: "" if found[1] or ALONE.match(text, found.end()) else found[0], text) if words else text
    )
    rest = without_questions(rest)
    on_question = asked(question)
    stated = {says for clause in CLAUSE.split(rest) if clause and (says := clause_says(clause, on_question))}
    if len(words) == 1:
        if stated and stated != words:
            return {"yes", "no"}, "a word and a statement against it"
        return words, "the word in a sentence"
    if words:
        return words, "the words"
    return stated, "a statement on the question"


def gold_of(answer: str) -> str | None:
    """yes or no; None for an answer that is neither."""
    return GOLD.get(bare(normal_form(answer)))


def judge_yes_no(item: Item, span: str) -> Finding:
    """Raises DataError where the item's answer is neither yes nor no."""
    wanted = gold_of(item.answer)
    if wanted is None:
        raise DataError(f"the answer {item.answer!r} of a yes_no question", "yes or no")
    if mixes_scripts(span):
        return Finding(None, "letters of two scripts that look alike")
    words, rule = said(plain_text(span).lower(), item.question)
    if not words:
        return Finding(None, "neither yes nor no said")
    if len(words) > 1:
        return Finding(0.0, f"both yes and no said: {rule}")
    (only,) = words
    return right_or_wrong(only == wanted, f"{rule}: says {only}, wanted {wanted}")
