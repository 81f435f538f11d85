"""Secrets out of texts that are kept (causes, log lines): a key in an error message must not reach the journal.

Rather too much than too little: what only looks like a secret is hidden as well.
"""

import os
import re
from collections.abc import Mapping

HIDDEN = "<redacted>"
SHORTEST_VALUE = 6  # characters; shorter values of the environment ("1", "true") would hide half the text

_SECRET_NAME = re.compile(
    r"(?:^|_)\w*?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|DSN)S?(?:_|$)|(?:^|_)(?:PASS|PWD|PAT)(?:_|$)",
    re.IGNORECASE,
)
_NOT_SECRET = re.compile(r"^(?:OLD)?PWD$|_(?:FILE|PATH|DIR|MODE)$", re.IGNORECASE)

_NAME = r"(?:key|token|password|passwd|passphrase|pwd|secret|credentials?|signature|sig)"
_COMPOUND = (
    r"(?:api|access|auth|secret|private|account|client|session|refresh|bearer|hf|id)[ _-]?(?:key|token|secret|id)"
)
_VALUE = rf"""(?:{re.escape(HIDDEN)}|\\?"(?:[^"\\]|\\[^"])*\\?"|\\?'(?:[^'\\]|\\[^'])*\\?'|[^\s&;,"'\\]+)"""

# each keeps its first group and hides the rest
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@'\"<>]*:[^\s/'\"<>]*(?=@)",  # user:password@
        r"(\b(?:bearer|basic)[ \t]+)[a-z0-9._~+/=-]{6,}",
        rf"(\b(?:proxy-)?authorization\\?[\"']?\s*[:=]\s*\\?[\"']?(?:bearer |basic |token )?){_VALUE}",
        r"(\b(?:set-)?cookie\\?[\"']?\s*[:=]\s*)[^\r\n]+",
        # key=…, "token": "…", X-Api-Key: …
        rf"({_NAME}\s*=\s*)(?!=){_VALUE}",
        rf"({_NAME}\\?[\"']\s*:\s*){_VALUE}",
        rf"((?:{_COMPOUND}|password|passwd|passphrase|secret)(?: \w+){{0,2}}\s*:\s*){_VALUE}",
        r"(\btoken:?\s+)(?=[\w.-]*\d)[\w.-]{16,}",
    )
)
# keys that give themselves away by their form
_FORMS = re.compile(
    r"\b(?:sk-[\w-]{6,}|(?:hf|gsk|xai|pplx|r8)_[A-Za-z0-9]{10,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{12,}"
    r"|nvapi-[\w-]{12,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|AIza[\w-]{20,}|xox[abeoprs]-[\w-]{8,}"
    r"|eyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*)"
)


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without keys, bearer tokens, passwords and the values of secret-looking environment variables.

    ``https://me:pw@host`` gives ``https://<redacted>@host``, ``api_key=abc`` gives ``api_key=<redacted>``.
    ``environment`` is this process's own where none is given.
    """
    for value in secret_values(os.environ if environment is None else environment):
        text = text.replace(value, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return _FORMS.sub(HIDDEN, text)


def secret_values(environment: Mapping[str, str]) -> list[str]:
    """Values of variables whose names look secret, the longest first, so that none is left half hidden."""
    values = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST_VALUE and _SECRET_NAME.search(name) and not _NOT_SECRET.search(name)
    }
    return sorted(values, key=lambda value: (-len(value), value))
