"""Web pages, XML and JSON, which are text and no table."""

from __future__ import annotations

import re

_PAGE = re.compile(
    rb"(?i:(?:<!--.{0,2000}?-->\s*)?(?:<!doctype\s+html|<(?:html|head|body)(?=[\s>])(?![^<]{0,200}>[,;|\t])))",
    re.DOTALL,
)
_XML = re.compile(rb"<\?xml\s+version\s*=")
_TOKEN = re.compile(
    rb'[ \t\r]+|\n|[{}\[\],:]|"(?:[^"\\\x00-\x1f]|\\.)*"|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null'
)
_PARTIAL_TOKEN = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\.)*\\?|-?[0-9.eE+-]*|t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?')
_JSON_START = re.compile(rb'\[?\s*\{\s*(?:"(?:[^"\\\x00-\x1f]|\\.)*"\s*:|\})|\[\s*\[')
_BOM = b"\xef\xbb\xbf"


def recognise_markup(begin: bytes) -> str | None:
    """What text that begins with these bytes of UTF-8 is, where it is no table: "a web page (HTML)"."""
    text = begin.removeprefix(_BOM).lstrip()
    if _PAGE.match(text):
        return "a web page (HTML)"
    if _XML.match(text):
        return "an XML document"
    return "a JSON document" if _is_json(text) else None


def _is_json(text: bytes) -> bool:
    """Whether text holds objects of JSON, and nothing else: a first field that does is followed by a delimiter."""
    if not _JSON_START.match(text):
        return False
    depth = at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return _PARTIAL_TOKEN.fullmatch(text, at) is not None and depth > 0
        word, at = token[0], token.end()
        if word in b"[{":
            depth += 1
        elif word in b"]}":
            depth -= 1
        elif depth < 1 and not word.isspace():
            return False
        if depth < 0:
            return False
    return True
