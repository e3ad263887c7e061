"""Which events a subscription wants: users' regular expressions (RE2), compiled and applied.

All parts that are set must match; a part about an object that the event does not refer to is
compared with the empty text, as FireFly does. Which types match is found out once, so that the
database picks events by type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import re2

from photinus_core.model import canonical
from photinus_core.model.errors import Rejected
from photinus_core.model.events import Event, EventType, SubscriptionFilter

EXPRESSION_CHARS_MAX: Final = 1024
"""Longest regular expression."""
PROGRAM_BYTES_MAX: Final = 1 << 20
"""Most memory of a compiled expression."""

_ALL_TYPES: Final = frozenset(str(kind) for kind in EventType)


class Pattern(Protocol):
    """A compiled expression."""

    def search(self, text: str) -> object | None:
        """Looks for a match anywhere in a text."""
        ...


@dataclass(frozen=True, slots=True)
class FilterSubject:
    """What of an event's surroundings filters look at; empty where the event has no such object."""

    tag: str = ""
    group: str = ""
    author: str = ""
    transaction_type: str = ""
    blockchain_name: str = ""
    blockchain_listener: str = ""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """A compiled filter.

    Attributes:
        types: Types of event that match, for the database; None for all.
        topic: Expression for the event's topic.
        references: Expressions for what events refer to, by attribute of `FilterSubject`.
    """

    types: frozenset[str] | None
    topic: Pattern | None
    references: tuple[tuple[str, Pattern], ...]

    @property
    def looks_at_references(self) -> bool:
        """Whether a `FilterSubject` is needed to judge an event."""
        return bool(self.references)

    def wants_event(self, event: Event) -> bool:
        """Judges an event by itself; its type is the database's business."""
        return self.topic is None or self.topic.search(event.topic) is not None

    def wants_subject(self, subject: FilterSubject) -> bool:
        """Judges what the event refers to."""
        return all(
            pattern.search(getattr(subject, name)) is not None for name, pattern in self.references
        )


def compile_filter(filters: SubscriptionFilter) -> EventFilter:
    """Compiles a filter.

    Raises:
        Rejected: FF10171, an expression is none.
    """
    parts = (
        ("tag", "message.tag", filters.tag),
        ("group", "message.group", filters.group),
        ("author", "message.author", filters.author),
        ("transaction_type", "transaction.type", filters.transaction_type),
        ("blockchain_name", "blockchainevent.name", filters.blockchain_name),
        ("blockchain_listener", "blockchainevent.listener", filters.blockchain_listener),
    )
    return EventFilter(
        types=_types(filters.events),
        topic=_compile("topic", filters.topic),
        references=tuple(
            (name, pattern)
            for name, label, expression in parts
            if (pattern := _compile(label, expression)) is not None
        ),
    )


def _compile(label: str, expression: str) -> Pattern | None:
    if not expression:
        return None
    if len(expression) > EXPRESSION_CHARS_MAX:
        raise Rejected("FF00135", f"filter.{label}", EXPRESSION_CHARS_MAX)
    options = re2.Options()
    options.max_mem = PROGRAM_BYTES_MAX
    options.log_errors = False
    try:
        pattern: Pattern = re2.compile(expression, options)
    except re2.error as failure:
        reason = failure.args[0] if failure.args else ""
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise Rejected("FF10171", f"filter.{label}", expression, text) from failure
    return pattern


def _types(expression: str) -> frozenset[str] | None:
    """The types that an expression finds: there are few, so each is tried once, here."""
    pattern = _compile("events", expression)
    if pattern is None:
        return None
    found = frozenset(kind for kind in _ALL_TYPES if pattern.search(kind) is not None)
    return None if found == _ALL_TYPES else found


class _Message(msgspec.Struct):
    tag: str | None = None
    group: str | None = None
    author: str | None = None


class _Transaction(msgspec.Struct):
    type: str | None = None


class _BlockchainEvent(msgspec.Struct):
    name: str | None = None
    listener: str | None = None


class _Filter(msgspec.Struct):
    events: str | None = None
    message: _Message | None = None
    transaction: _Transaction | None = None
    blockchainevent: _BlockchainEvent | None = None
    topic: str | None = None
    topics: str | None = None
    tag: str | None = None
    group: str | None = None
    author: str | None = None


_filter_decoder = msgspec.json.Decoder(_Filter)


def parse_filter(text: str) -> tuple[SubscriptionFilter, str]:
    """Reads FireFly's filter JSON, deprecated members included.

    Returns:
        The filter, and the JSON in which it is shown again.

    Raises:
        Rejected: FF10103, it has another shape.
    """
    try:
        raw = _filter_decoder.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError) as failure:
        raise Rejected("FF10103", failure) from failure
    message = raw.message or _Message()
    transaction = raw.transaction or _Transaction()
    chain = raw.blockchainevent or _BlockchainEvent()
    filters = SubscriptionFilter(
        events=raw.events or "",
        topic=raw.topic or raw.topics or "",
        tag=message.tag or raw.tag or "",
        group=message.group or raw.group or "",
        author=message.author or raw.author or "",
        transaction_type=transaction.type or "",
        blockchain_name=chain.name or "",
        blockchain_listener=chain.listener or "",
    )
    shown = _members(
        ("events", _text(raw.events)),
        (
            "message",
            _inner(("tag", message.tag), ("group", message.group), ("author", message.author)),
        ),
        ("transaction", _inner(("type", transaction.type))),
        ("blockchainevent", _inner(("name", chain.name), ("listener", chain.listener))),
        ("topic", _text(raw.topic)),
        ("topics", _text(raw.topics)),
        ("tag", _text(raw.tag)),
        ("group", _text(raw.group)),
        ("author", _text(raw.author)),
    )
    return filters, shown


def _text(value: str | None) -> str | None:
    return canonical.quote(value) if value else None


def _inner(*members: tuple[str, str | None]) -> str:
    return _members(*((name, _text(value)) for name, value in members))


def _members(*members: tuple[str, str | None]) -> str:
    written = ",".join(f'"{name}":{value}' for name, value in members if value is not None)
    return f"{{{written}}}"
