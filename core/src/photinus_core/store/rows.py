"""How records are spelled in columns: lists, references, positions, absent values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from photinus_core.model.ids import Hash32, Uuid
from photinus_core.model.messages import DataRef
from photinus_core.model.network import Position

_EMPTY: Final = "\\-"
_UUID_CHARS: Final = 36
_POSITION_WIDTHS: Final = (6, 19, 10, 10, 10)


def join_texts(texts: Sequence[str]) -> str:
    """Writes texts as one, joined by commas; commas inside, which only strangers send, are escaped."""
    joined = ",".join(texts)
    if joined.count(",") == len(texts) - 1 and "\\" not in joined and "" not in texts:
        return joined
    return ",".join(
        text.replace("\\", "\\\\").replace(",", "\\,") if text else _EMPTY for text in texts
    )


def split_texts(joined: str) -> tuple[str, ...]:
    """Reads what `join_texts` wrote."""
    if not joined:
        return ()
    if "\\" not in joined:
        return tuple(joined.split(","))
    texts, current, characters = [], "", iter(joined)
    for character in characters:
        if character == "\\":
            escaped = next(characters)
            current += "" if escaped == "-" else escaped
        elif character == ",":
            texts.append(current)
            current = ""
        else:
            current += character
    texts.append(current)
    return tuple(texts)


def join_refs(refs: Iterable[DataRef]) -> str:
    """Writes references to data as `id:hash,…`."""
    return ",".join([f"{ref.id}:{ref.hash}" for ref in refs])


def split_refs(joined: str) -> tuple[DataRef, ...]:
    """Reads what `join_refs` wrote."""
    if not joined:
        return ()
    return tuple(
        [
            DataRef(Uuid(part[:_UUID_CHARS]), Hash32(part[_UUID_CHARS + 1 :]))
            for part in joined.split(",")
        ]
    )


def write_position(position: Position | None) -> str:
    """Writes a chain position so that texts compare as positions do; '' for none."""
    if position is None:
        return ""
    return ":".join(
        f"{part:0{width}d}" for part, width in zip(position, _POSITION_WIDTHS, strict=True)
    )


def read_position(text: str) -> Position | None:
    """Reads what `write_position` wrote."""
    if not text:
        return None
    contract, block, transaction, log, index = map(int, text.split(":"))
    return (contract, block, transaction, log, index)


def uuid_or_none(text: str) -> Uuid | None:
    """Reads an optional id."""
    return Uuid(text) if text else None


def hash_or_none(text: str) -> Hash32 | None:
    """Reads an optional hash."""
    return Hash32(text) if text else None
