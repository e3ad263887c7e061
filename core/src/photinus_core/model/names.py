"""Rules for what users may call things: names, topics, tags, idempotency keys, blob names.

Texts and codes are FireFly's; see its field rules in `docs/divergences.md` where ours differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from photinus_core.model.errors import Rejected
from photinus_core.model.ids import is_uuid

DEFAULT_TOPIC: Final = "default"
TOPICS_MAX: Final = 10
TOPICS_CHARS_MAX: Final = 1024
"""Longest sum of the lengths of a message's topics."""
IDEMPOTENCY_KEY_CHARS_MAX: Final = 256
DESCRIPTION_CHARS_MAX: Final = 4096
BLOB_NAME_CHARS_MAX: Final = 1024
RESERVED_NAMESPACE: Final = "ff_system"

_NAME = re.compile(r"[0-9a-zA-Z](?:[0-9a-zA-Z._-]{0,62}[0-9a-zA-Z])?")


def check_name(name: str, field: str = "name") -> str:
    """Checks the name rule: 1-64 alphanumerics, `.`, `-` and `_`, alphanumeric at both ends.

    Args:
        name: What the user wrote.
        field: Where, as FireFly's JSON calls it; for the error.

    Returns:
        The name.

    Raises:
        Rejected: FF00140.
    """
    if _NAME.fullmatch(name) is None:
        raise Rejected("FF00140", field)
    return name


def check_name_not_uuid(name: str, field: str = "name") -> str:
    """Checks the name rule for what is also found by id: the name must not look like one.

    Raises:
        Rejected: FF00140 or FF00141.
    """
    check_name(name, field)
    if is_uuid(name):
        raise Rejected("FF00141", field)
    return name


def check_topics(topics: Sequence[str], field: str = "header.topics") -> tuple[str, ...]:
    """Checks a message's topics; none at all means the default topic.

    Returns:
        The topics in the order given: it is hashed.

    Raises:
        Rejected: FF00134 too many, FF00140 one breaks the name rule, FF00133 one comes twice,
            FF00135 together they are too long.
    """
    if not topics:
        return (DEFAULT_TOPIC,)
    if len(topics) > TOPICS_MAX:
        raise Rejected("FF00134", field, TOPICS_MAX, len(topics))
    seen: set[str] = set()
    for index, topic in enumerate(topics):
        check_name(topic, f"{field}[{index}]")
        if topic in seen:
            raise Rejected("FF00133", field, index, topic)
        seen.add(topic)
    if sum(map(len, topics)) > TOPICS_CHARS_MAX:
        raise Rejected("FF00135", field, TOPICS_CHARS_MAX)
    return tuple(topics)


def check_tag(tag: str, field: str = "header.tag") -> str:
    """Checks a message's tag; an empty one is none.

    Raises:
        Rejected: FF00140.
    """
    return check_name(tag, field) if tag else tag


def check_idempotency_key(key: str) -> str:
    """Checks a client's idempotency key; an empty one is none.

    Raises:
        Rejected: FF00135 too long, FF19008 not storable as text.
    """
    if len(key) > IDEMPOTENCY_KEY_CHARS_MAX:
        raise Rejected("FF00135", "idempotencyKey", IDEMPOTENCY_KEY_CHARS_MAX)
    return check_text(key, "idempotencyKey")


def check_text(text: str, field: str, chars_max: int | None = None) -> str:
    """Checks free text: it must fit, and every database must be able to store it.

    Raises:
        Rejected: FF00135 too long, FF19008 it holds NUL or half of a surrogate pair.
    """
    if chars_max is not None and len(text) > chars_max:
        raise Rejected("FF00135", field, chars_max)
    if "\0" in text or not _is_encodable(text):
        raise Rejected("FF19008", field)
    return text


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _BlobNaming(msgspec.Struct):
    """The members of a data item's value that name its blob. Other types than text do not count."""

    name: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    path: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    filename: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_blob_naming = msgspec.json.Decoder(_BlobNaming)
_text = msgspec.json.Decoder(str)


def blob_name(value: str | None) -> str:
    """Derives the name of a blob from the value of its data item.

    `name`, else `path/filename`, else `filename`; empty when the value names nothing. What is no
    JSON object, or a member that is no text, names nothing.
    """
    if value is None:
        return ""
    try:
        naming = _blob_naming.decode(value)
    except msgspec.DecodeError:
        return ""
    name = _member(naming.name)
    if name:
        return name
    path, filename = _member(naming.path), _member(naming.filename)
    if path and filename:
        return f"{path}/{filename}"
    return filename


def _member(raw: msgspec.Raw | msgspec.UnsetType) -> str:
    if isinstance(raw, msgspec.UnsetType):
        return ""
    try:
        return _text.decode(raw)
    except msgspec.DecodeError:
        return ""


def blob_path(name: str) -> str:
    """Derives the folder of a blob from its name, for queries by folder: `/a/b/c.txt` is in `/a/b`.

    A path begins with a slash and, but for the root itself, ends without one. No name has no path.
    """
    if not name:
        return ""
    folder, _, _ = f"/{name.lstrip('/')}".rpartition("/")
    return folder or "/"
