"""What looks like a secret, in what would leave this machine with a job.

A job's command and its project file can be read by everyone who reaches the cluster's dashboard. So they name secrets,
by variables that are set on the cluster, and hold none. What is refused is never repeated.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from rayforest.errors import ConfigError

NAME = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)
"""Of variables that hold secrets."""

_KNOWN = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an AWS access key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "an Azure account key or signature": r"(?i)\b(?:AccountKey|SharedAccessSignature)\s*=\s*\S",
    "a signed URL": r"(?i)[?&](?:sig|signature|x-amz-signature|x-goog-signature)=[^&\s]{8}",
    "a Google API key": r"\bAIza[A-Za-z0-9_-]{35}\b",
    "a Google access token": r"\bya29\.[A-Za-z0-9_-]{20}",
    "a GitHub or GitLab token": r"\b(?:gh[opsur]_[A-Za-z0-9]{30}|github_pat_[A-Za-z0-9_]{30}|glpat-[A-Za-z0-9_-]{20})",
    "a token of a chat or language model": r"\b(?:xox[abprs]-[A-Za-z0-9-]{10}|sk-[A-Za-z0-9_-]{24}|hf_[A-Za-z0-9]{30})",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.",
    "a password in a URL": r"\b[a-z][a-z0-9+.-]*://[^\s/@:\"']+:[^\s/@\"'$]+@",
    "a bearer token": r"(?i)\bbearer\s+[a-z0-9._~+/-]{16}",
    "a password": r"(?i)\b(?:password|passwd|pwd|secret|api_?key|access_?key|auth_?token)\s*[=:]\s*[\"']?[^\s\"'${]{6}",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in _KNOWN.items()}
_KEY_LIKE = re.compile(r"(?<![A-Za-z0-9/+_.-])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=_.-])")
_KEY_LIKE_BITS = 4.3
"""Bits a character of a 40-character text with capitals, small letters and digits: drawn ones have 4.6 to 5.1, words
and paths stay below 4.2."""
_SHORTEST = 8
"""Characters of a variable's value that is looked for: shorter ones stand in texts by chance."""


def refuse_secrets(texts: Mapping[str, str], variables: Sequence[str]) -> None:
    """Refuse texts that would go out with a job and hold what looks like a secret.

    Args:
        texts: place -> text, as `project.toml` or `--set data.source`.
        variables: names of variables whose values would go out.

    Raises:
        ConfigError: says where, and of which kind; the secret is not repeated.
    """
    values = {f"the variable {name}": os.environ[name] for name in variables if name in os.environ}
    for place, text in {**texts, **values}.items():
        for number, line in enumerate(text.splitlines(), 1):
            if kind := _kind(line):
                raise ConfigError(
                    f"{place} holds what looks like a secret" + (f", in line {number}" if place in texts else ""),
                    expected="no secret: whoever reaches the cluster's dashboard can read what a job was sent with",
                    found=kind,
                    next_step="take it out; set it on the cluster as a variable, a profile or a role of its nodes, and "
                    "write ${NAME} where a value is needed",
                )


def _kind(line: str) -> str:
    for kind, pattern in _PATTERNS.items():
        if pattern.search(line):
            return kind
    for name, value in os.environ.items():
        if NAME.search(name) and len(value) >= _SHORTEST and not value.startswith("/") and value in line:
            return f"the value of {name}"
    if any(_is_drawn(match[0]) for match in _KEY_LIKE.finditer(line)):
        return "40 characters as of an AWS secret key"
    return ""


def _is_drawn(text: str) -> bool:
    if not all(re.search(kind, text) for kind in ("[a-z]", "[A-Z]", "[0-9]")):
        return False
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) >= _KEY_LIKE_BITS
