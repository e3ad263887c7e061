"""For which request and trace the running code works; and spans of it, where tracing is on.

A request brings its id and its trace context (W3C). They go into every line it logs and along with
every call it makes, also where this process records no spans itself: then they are passed on as
they came.

What happens later and elsewhere, on behalf of many messages, has traces of its own: one for each
batch, whose ids follow from the batch's, so that every replica and every member can refer to it
without being told. Spans are linked to what they carry on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

REQUEST_ID_KEY: Final = "x-firefly-request-id"
TRACE_KEYS: Final = ("traceparent", "tracestate")
REQUEST_ID_CHARS_MAX: Final = 128
TRACE_CHARS_MAX: Final = 512
_PARTS: Final = 4

Attributes = Mapping[str, str | int]
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """The request that code runs for.

    Attributes:
        request_id: `X-FireFly-Request-ID`; empty for work of our own.
        carried: Its trace context as it came, by metadata key.
    """

    request_id: str = ""
    carried: Metadata = ()


_NONE: Final = Origin()
_origin: ContextVar[Origin] = ContextVar("origin", default=_NONE)


class Tracer(Protocol):
    """Records spans. None of its methods raises or waits."""

    def span(
        self,
        name: str,
        *,
        kind: str = "internal",
        batch: str = "",
        links: Sequence[str] = (),
        attributes: Attributes | None = None,
    ) -> AbstractContextManager[None]:
        """A piece of work; what is called inside belongs to it.

        Args:
            name: What is done.
            kind: `server` for what a request from outside begins, `client` for a call, `internal`.
            batch: Of whose trace it is a part, instead of the present one.
            links: Ids of messages and batches that it carries on.
            attributes: For people.
        """
        ...

    def batch(self, batch: str, messages: Sequence[str]) -> None:
        """Begins the trace of a batch, linked to the messages that are known here."""
        ...

    def message(self, message: str) -> None:
        """Remembers, for links, that a message was taken by the present span."""
        ...

    def present(self) -> tuple[str, str]:
        """Ids of trace and span, in hexadecimal; empty for none."""
        ...

    def metadata(self) -> Metadata:
        """What a call takes along; empty outside of any span."""
        ...


class _Untraced:
    """Records nothing, and costs next to nothing."""

    def span(self, *_: object, **__: object) -> AbstractContextManager[None]:
        return _NOTHING

    def batch(self, batch: str, messages: Sequence[str]) -> None:
        pass

    def message(self, message: str) -> None:
        pass

    def present(self) -> tuple[str, str]:
        """What the request brought along."""
        for key, value in _origin.get().carried:
            parts = value.split("-")
            if key == TRACE_KEYS[0] and len(parts) >= _PARTS:
                return parts[1], parts[2]
        return "", ""

    def metadata(self) -> Metadata:
        return ()


_NOTHING: Final = nullcontext()
UNTRACED: Final[Tracer] = _Untraced()
_tracers: list[Tracer] = [UNTRACED]
"""The last one counts; the process has one, as it has one log."""


def tracer() -> Tracer:
    """Records the spans of this process."""
    return _tracers[-1]


def install(new: Tracer) -> None:
    """Has spans recorded from now on."""
    _tracers.append(new)


def uninstall(old: Tracer) -> None:
    """Ends what `install` began."""
    _tracers.remove(old)


def enter(metadata: Sequence[tuple[str, str | bytes]]) -> Origin:
    """Notes whom the rest of this task works for, from the metadata of a call."""
    request_id, carried = "", list[tuple[str, str]]()
    for key, value in metadata:
        if not isinstance(value, str):
            continue
        if key == REQUEST_ID_KEY and len(value) <= REQUEST_ID_CHARS_MAX:
            request_id = value
        elif key in TRACE_KEYS and len(value) <= TRACE_CHARS_MAX:
            carried.append((key, value))
    if not request_id and not carried:
        return _NONE
    made = Origin(request_id, tuple(carried))
    _origin.set(made)
    return made


def origin() -> Origin:
    """Whom the running code works for."""
    return _origin.get()


def call_metadata() -> Metadata:
    """What a call takes along: the request's id, and the present trace."""
    source = _origin.get()
    traced = tracer().metadata() or source.carried
    if not source.request_id:
        return traced
    return ((REQUEST_ID_KEY, source.request_id), *traced)
