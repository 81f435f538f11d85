"""Whether an answer is named but not given: said to be others' (`a novice would say B`), refused, or taken back."""

import re

from residency.platform.verifiers.negation import NO_DENIAL

NAIVE = (
    r"(?:some|someone|somebody|others?|another|many|few|nobody|no one|(?:an? |the |my |any |his |her )?(?:\w+ )?"
    r"(?:resident|student|novice|beginner|layman|layperson|intern|trainee|amateur|colleague|friend|neighbou?r|chatbot"
    r"|fool|idiot)s?)"
)
ANYONE = r"(?:one|you|they|people|most|anyone|anybody|everyone|everybody)"
MODAL = (
    r"(?:(?:might|may|could|would|will|often|usually|always|sometimes|typically|wrongly|mistakenly|well|be tempted to"
    r"|tend to|used to|want to) )"
)
SAYING = str.split(
    "say says said pick picks picked choose chooses chose answer answers answered guess guesses guessed think thinks"
    " thought call calls called select selects selected claim claims claimed argue argues argued assume assumes assumed"
    " suspect suspects suspected suggest suggested propose proposed expect expected mistake"
    " mistook believe believes believed diagnose diagnosed"
)
REFUSING = tuple(
    stem + ending
    for stems, endings in (
        ("refus declin avoid", ("e", "es", "ed", "ing", "s", "")),
        ("cancel cancell postpon discard skip skipp omit omitt", ("e", "es", "ed", "ing", "s", "")),
        ("doubt distrust disput contest", ("e", "es", "ed", "ing", "s", "")),
    )
    for stem in stems.split()
    for ending in endings
)
FAR_FROM = (
    "hardly,barely,scarcely,seldom,rarely,far from,short of,opposite of,contrary of,reverse of,anything but,apart from"
    ",aside from,save for,as opposed to,in place of,in lieu of,with the exception of,contraindication to"
    ",contraindications to,no such thing as,mistaken for,confused with,misread as,misdiagnosed as,mislabeled as"
    ",mislabelled as,pretends to be,posing as,disguised as,fake,pseudo"
)
EVERY_BUT = (
    r"(?:any|every|each|all)\w*(?: (?:of|the|these|those|them|other|single|possible|given|listed|options?|choices?"
    r"|answers?|letters?|ones?|others|modality|modalities)){0,4},? (?:but|except|save|bar)(?: for)?"
)
BEFORE = re.compile(
    rf"(?:\b{NAIVE} {MODAL}{{0,3}}(?:{'|'.join(SAYING)}|go (?:with|for)|opt for)(?: (?:that|it|this|is|was|as|for))*"
    rf"|\b{ANYONE} (?:might|may|could|wrongly|mistakenly|falsely) {MODAL}{{0,3}}(?:{'|'.join(SAYING)}|go (?:with|for)"
    r"|opt for)(?: (?:that|it|this|is|was|as|for))*"
    r"|\b(?:i|we) (?:wrongly|mistakenly|falsely|first|initially|originally|never) (?:\w+ )?\w+(?: (?:it|this|was|is))*"
    rf"|\b(?:{'|'.join(REFUSING)})(?: (?:to (?:have|undergo|get|do)|having|using|doing))?"
    rf"|\b(?:{FAR_FROM.replace(',', '|')})|\b{EVERY_BUT}|\bunless(?: (?:it|this) (?:is|was|were))?"
    r"|(?:别人|有人)(?:会|可能)?(?:说|选|认为)是?|误认为是?|误诊为|误以为是?|拒绝(?:做|行|接受)?)"
    r"(?: (?:a|an|the|any|this|that|option|answer|letter|its))* ?[\"'(\[]?$"
)
# One of these stands among the last words before such an answer; looking them up spares most texts the search.
TRIGGERS = frozenset((
    *SAYING, *REFUSING, "with", "for", "hardly", "barely", "scarcely", "seldom", "rarely", "from", "of", "but",
    "except", "save", "bar", "to", "as", "fake", "pseudo", "wrongly", "mistakenly", "falsely", "first", "initially",
    "originally", "never", "unless",
))  # fmt: skip
LAST_WORDS = 8
NOT_THAT = (
    r"(?:distractor|decoy|trap|lure|bait|red herring|mistake|error|misnomer|myth|misconception|fallacy|misreading"
    r"|misdiagnosis|misinterpretation|pitfall|joke|lie|runner-up|nonsense|wrong|(?:poor|bad|second|tempting)"
    r" (?:choice|guess|option|answer))"
)
AFTER = re.compile(
    r"[)\]\"'*]{0,3}(?:"
    r" ?\?+ ?(?:no|nope|nah|never|not|wrong|incorrect|false|hardly|(?:certainly|definitely|absolutely|surely) not"
    r"|i doubt|i don't think|that's wrong)\b"
    r"|,? ?(?:which |that )?(?:is|are|was|were|would be|seems|looks|being) (?:\w+ly |just |only |merely )?(?:also )?"
    rf"(?:the |a |an )?(?:(?!no |not |never |without )[\w-]+ ){{0,2}}?{NOT_THAT}\b"
    rf"|,? ?(?:is|was|would be) (?:what|where|how) (?:{NAIVE} |{ANYONE} (?:might|may|could|wrongly|mistakenly)\b)"
    r"|,? ?(?:is|was|are|would be) (?:hardly|barely|scarcely|far from|anything but|tempting|contraindicated|irrelevant"
    r"|unnecessary|useless|out of the question|unsuitable|inappropriate|doubtful|questionable|refused|declined"
    r"|cancell?ed|postponed|skipped|omitted|avoided|discarded)\b"
    r"|,? ?(?:would|might|could|may) (?:have (?:been )?|be )?(?:\w+ ){0,4}(?:if|had|were|unless|wrong|second)\b"
    r"|,? unless\b"
    r"|,? ?but (?:it |that |this )?(?:is not|isn't|it's not|that's (?:wrong|not)|not (?:really|quite|it)|wrongly|no\b)"
    r"|[.,;:!)(\- ]{1,5}(?:i (?:am|was) (?:just )?(?:kidding|joking)|i'm (?:just )?(?:kidding|joking)|just kidding"
    r"|kidding|scratch that|strike that|i take (?:it|that|this) back|never ?mind|on second thoughts?|or not\b|not!"
    r"|no, wait|(?:wrong|wrongly|mistakenly|erroneously|incorrectly|false|incorrect|nope)(?=$|[.,;!)])"
    r"|(?:that|this|it)(?: is|'s| was| would be) (?:\w+ly )?(?:not (?:right|correct|true|it)\b|untrue\b|incorrect\b"
    rf"|false\b|(?:the |a |an )?{NOT_THAT}\b))"
    r"|的?(?:是)?(?:干扰项|陷阱|误诊|误导|错误))"
)
REACH_BEFORE, REACH_AFTER = 72, 64  # characters
WORD = re.compile(r"[a-z]{5,}")
PLAIN = frozenset((*SAYING, "would", "could", "might", "which", "these", "option", "answer"))


def is_disowned(text: str, start: int, end: int, question: str = "") -> bool:
    """Whether ``text[start:end]`` (lower case) is ascribed, refused or taken back by the words right beside it.

    Not where the question asks for just that (`what did the patient refuse?`).
    """
    head = text[max(0, start - REACH_BEFORE) : start]
    found = None
    if head and (not TRIGGERS.isdisjoint(head.split()[-LAST_WORDS:]) or not head.isascii()):
        found = BEFORE.search(NO_DENIAL.sub("·", head))
    found = found or AFTER.match(text, end, end + REACH_AFTER)
    if found is None:
        return False
    asked = question.lower()
    return not any(word[:5] in asked for word in WORD.findall(found[0]) if word not in PLAIN)
