"""JSON text as Go's `encoding/json` writes it: user values, strings and times, byte for byte.

Hashes cover text, so user JSON is never parsed into objects and written again: key order,
repeated keys, the spelling of numbers and escapes stay as the user wrote them. `compact` removes
insignificant whitespace and escapes what Go escapes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

import msgspec

from photinus_core.model.ids import Nanoseconds

NESTING_MAX: Final = 10_000
"""Depth at which Go's parser gives up."""

_SECOND: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class InvalidJsonError(ValueError):
    """The text is not JSON.

    Attributes:
        offset: Index of the first character that is wrong (in the decoded text).
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} at offset {offset}")
        self.offset: Final = offset


class InvalidTimeError(ValueError):
    """The text is no time."""


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    # Go replaces every byte that does not decode; Python's own handler replaces a run by one.
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("photinus-replace", _replace_each_byte)


def decode_utf8(raw: bytes) -> str:
    """Decodes UTF-8 as Go does: each byte that does not decode becomes U+FFFD."""
    return raw.decode("utf-8", "photinus-replace")


_PLAIN = re.compile(r'[^"\\<>&\x00-\x1f\u2028\u2029\ud800-\udfff]*+')
_SPECIAL = re.compile(r'["\\<>&\x00-\x1f\u2028\u2029\ud800-\udfff]')
_SHORT: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    if short := _SHORT.get(character):
        return short
    code = ord(character)
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def quote(text: str) -> str:
    """Writes a string as JSON as Go does: `<`, `>`, `&`, U+2028 and U+2029 are escaped as well."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return f'"{_SPECIAL.sub(_escape, text)}"'


_TIGHT = re.compile(r'(?:[^"\x20\t\n\r]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")++', re.DOTALL)
_SPACE = re.compile(r"[\x20\t\n\r]")
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)


def compact(value: str | bytes) -> str:
    """Brings JSON text into the form in which it is stored and hashed.

    Whitespace between tokens goes; `<`, `>`, `&`, U+2028 and U+2029 in strings are escaped;
    bytes that are not UTF-8 become U+FFFD; everything else stays as it was. Idempotent.

    Raises:
        InvalidJsonError: with the offset of the first wrong character.
    """
    text = decode_utf8(value) if isinstance(value, bytes) else value
    if not text.isascii() and (
        text.find("\u2028") >= 0 or text.find("\u2029") >= 0 or _has_surrogate(text)
    ):
        text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
        text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    try:
        _raw_decoder.decode(text)
        may_be_deep = text.count("[") + text.count("{") > NESTING_MAX
    except (msgspec.DecodeError, RecursionError):
        # Stricter than Go in corners (lone surrogate escapes, depth): the slow parser has the last
        # word.
        may_be_deep = True
    if may_be_deep:
        # How deep the decoder goes depends on the interpreter's settings; what is valid must not.
        _validate(text)
    if _SPACE.search(text) and not _TIGHT.fullmatch(text):
        text = "".join(_TIGHT.findall(text))
    # Valid JSON has these only inside strings, and never after a backslash.
    if "<" in text or ">" in text or "&" in text:
        text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return text


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


_TOKEN = re.compile(
    r"[\x20\t\n\r]*+"
    r'(?:([\[\]{},:])|("(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")'
    r"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null))"
)
_BLANK = re.compile(r"[\x20\t\n\r]*+")
_VALUE, _KEY, _COLON, _MORE = "a value", "an object key", "a colon", "a comma or the end"


def _validate(text: str) -> None:
    """Checks JSON grammar token by token; slow, exact, and not recursive."""
    open_brackets: list[str] = []
    expected, may_close, at = _VALUE, False, 0
    while True:
        found = _TOKEN.match(text, at)
        if found is None:
            start = _blank_end(text, at)
            if start == len(text) and expected is _MORE and not open_brackets:
                return
            if expected in (_VALUE, _KEY):
                start = _wrong_offset(text, start)
            raise InvalidJsonError(f"invalid JSON: expected {expected}", start)
        mark, string, scalar = found.groups()
        start = found.start(found.lastindex or 0)
        if mark in ("]", "}"):
            pair = "[" if mark == "]" else "{"
            if (
                not open_brackets
                or open_brackets[-1] != pair
                or not (may_close or expected is _MORE)
            ):
                raise InvalidJsonError(f"invalid JSON: expected {expected}", start)
            open_brackets.pop()
            expected, may_close = _MORE, False
        elif expected is _MORE and mark == "," and open_brackets:
            expected, may_close = _KEY if open_brackets[-1] == "{" else _VALUE, False
        elif expected is _COLON and mark == ":":
            expected, may_close = _VALUE, False
        elif expected is _KEY and string is not None:
            expected, may_close = _COLON, False
        elif expected is _VALUE and mark in ("[", "{"):
            open_brackets.append(mark)
            if len(open_brackets) > NESTING_MAX:
                raise InvalidJsonError("invalid JSON: nested too deep", start)
            expected, may_close = _KEY if mark == "{" else _VALUE, True
        elif expected is _VALUE and (string is not None or scalar is not None):
            expected, may_close = _MORE, False
        else:
            raise InvalidJsonError(f"invalid JSON: expected {expected}", start)
        at = found.end()


def cut_values(text: str, path: Sequence[str | None]) -> tuple[str, list[str]]:
    """Takes the values at a path out of JSON text, with a parser that nothing in them stops.

    Args:
        text: JSON; what is wrong in it stays for the reader of the result.
        path: Keys from the outside in, as they are quoted in the text; None for an array.

    Returns:
        The text with the number of its value at each such place, and the values.
    """
    pieces: list[str] = []
    values: list[str] = []
    keys: list[str | None] = []
    copied = at = 0
    while found := _TOKEN.match(text, at):
        mark, string, _ = found.groups()
        at = found.end()
        if mark in ("{", "["):
            keys.append("" if mark == "{" else None)
        elif mark in ("}", "]"):
            if not keys:
                break
            keys.pop()
        elif mark == ":" and len(keys) == len(path) and keys == list(path):
            end = _value_end(text, at)
            pieces += [text[copied:at], str(len(values))]
            values.append(text[at:end])
            copied = at = end
        elif string is not None and keys and keys[-1] is not None:
            keys[-1] = string
    return "".join((*pieces, text[copied:])), values


def _value_end(text: str, at: int) -> int:
    """Index behind the value that begins at an index; the same index when there is none."""
    depth, end = 0, at
    while found := _TOKEN.match(text, end):
        mark = found[1]
        if mark in (",", ":") and depth == 0:
            break
        if mark in ("{", "["):
            depth += 1
        elif mark in ("}", "]"):
            if depth == 0:
                break
            depth -= 1
        end = found.end()
        if depth == 0:
            break
    return end


def _blank_end(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


_STRING_START = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_SCALAR_START = re.compile(r"[a-z]++|-?(?:[0-9]++(?:\.[0-9]*+)?+)?+")


def _wrong_offset(text: str, start: int) -> int:
    """Looks into a token that does not match for the character that is wrong."""
    found = _STRING_START.match(text, start) or _SCALAR_START.match(text, start)
    return found.end() if found and found.end() > start else start


def format_time(time: Nanoseconds) -> str:
    """Writes a time as RFC 3339 in UTC with nanoseconds, trailing zeros of the fraction left out."""
    seconds, fraction = divmod(time, _SECOND)
    if fraction == 0:
        return f"{_format_seconds(seconds)}Z"
    return f"{_format_seconds(seconds)}.{f'{fraction:09d}'.rstrip('0')}Z"


@lru_cache(maxsize=256)
def _format_seconds(seconds: int) -> str:
    # strftime would not pad a year below 1000.
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_INTEGER = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_SECONDS_BELOW: Final = 10**10
_MILLISECONDS_BELOW: Final = 10**15


def parse_time(text: str) -> Nanoseconds:
    """Reads a time as FireFly does: RFC 3339, or seconds, milliseconds or nanoseconds by size.

    Digits beyond nanoseconds are dropped.

    Raises:
        InvalidTimeError: it is neither.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        if _INTEGER.fullmatch(text) is None:
            raise InvalidTimeError(f"cannot parse time {text[:64]!r}")
        return _from_number(int(text))
    fraction = int((found[7] or "0").ljust(9, "0")[:9])
    zone = UTC
    try:
        if found[9]:
            offset = timedelta(hours=int(found[10]), minutes=int(found[11]))
            zone = timezone(-offset if found[9] == "-" else offset)
        year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
        moment = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError as failure:
        raise InvalidTimeError(f"cannot parse time {text[:64]!r}") from failure
    since = moment - _EPOCH
    return Nanoseconds((since.days * 86_400 + since.seconds) * _SECOND + fraction)


def _from_number(number: int) -> Nanoseconds:
    if number < _SECONDS_BELOW:
        return Nanoseconds(number * _SECOND)
    if number < _MILLISECONDS_BELOW:
        return Nanoseconds(number * 1_000_000)
    return Nanoseconds(number)
