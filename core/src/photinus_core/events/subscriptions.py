"""Manages durable subscriptions, and reads the options of all kinds.

FireFly's options are checked; unknown members are the application's (or a webhook's) and are kept
and shown as they came. Where delivery begins is fixed when the subscription is made: shown back as
a number, and not moved by later changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from photinus_core.events.durations import milliseconds_of
from photinus_core.events.filters import compile_filter, parse_filter
from photinus_core.events.webhook_options import (
    WEBHOOK_DEFAULTS,
    WebhookSettings,
    read_webhook_options,
)
from photinus_core.model import canonical, names
from photinus_core.model.errors import Conflict, Exhausted, NotFound, Rejected
from photinus_core.model.events import Subscription, SubscriptionFilter
from photinus_core.model.ids import Namespace, Nanoseconds, Uuid, new_uuid
from photinus_core.ports.clock import Clock
from photinus_core.ports.store import Reader, Store

READ_AHEAD_MAX: Final = 65_535
BATCH_TIMEOUT_MS_MAX: Final = 600_000
SCAN_LENGTH_MAX: Final = 100_000
"""Highest setting of how many events a replay may look at."""
WEBSOCKETS: Final = "websockets"
WEBHOOKS: Final = "webhooks"
TRANSPORTS: Final = frozenset({WEBSOCKETS, WEBHOOKS})
OLDEST: Final = "oldest"
NEWEST: Final = "newest"

CORE_OPTIONS: Final = frozenset({"firstEvent", "readAhead", "withData", "batch", "batchTimeout"})
"""FireFly's options of every transport; the others are the application's, or a webhook's."""


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """Section `subscription` of the configuration, with FireFly's defaults.

    Attributes:
        subscriptions_max: Most durable subscriptions of a namespace (`max`).
        batch_size: Size of batches where a subscription names none (`defaults.batchSize`).
        batch_timeout_ms: How long an incomplete batch waits unless it is said
            (`defaults.batchTimeout`).
        scan_max: Most events that one replay of the history looks at (`events.maxScanLength`).
    """

    subscriptions_max: int = 500
    batch_size: int = 50
    batch_timeout_ms: int = 50
    scan_max: int = 1_000


SUBSCRIPTION_DEFAULTS: Final = SubscriptionSettings()


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a subscription as delivery needs them.

    Attributes:
        first_event: `oldest`, `newest` or a sequence in decimal.
        read_ahead: Events that may be under way beyond the one that waits for its ack.
        with_data: Whether data values are delivered (webhooks).
        batch: Whether events come in batches.
        batch_timeout_ms: Longest time an incomplete batch waits.
        other: The members that are not FireFly's core options, JSON by name.
        said: Which of the core options were given.
    """

    first_event: str = NEWEST
    read_ahead: int = 0
    with_data: bool = False
    batch: bool = False
    batch_timeout_ms: int = SUBSCRIPTION_DEFAULTS.batch_timeout_ms
    batch_timeout: str = ""
    other: tuple[tuple[str, str], ...] = ()
    said: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class SubscriptionInput:
    """What a caller gives.

    Attributes:
        name: Name, unique in the namespace.
        transport: `websockets` (also gRPC) or `webhooks`; empty means websockets.
        filter_json: FireFly's filter object.
        options_json: FireFly's options object.
    """

    name: str
    transport: str = ""
    filter_json: str = ""
    options_json: str = ""


class SubscriptionService:
    """Durable subscriptions of one namespace."""

    def __init__(
        self,
        store: Store,
        namespace: Namespace,
        clock: Clock,
        settings: SubscriptionSettings = SUBSCRIPTION_DEFAULTS,
        webhooks: WebhookSettings = WEBHOOK_DEFAULTS,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._clock = clock
        self._settings = settings
        self._webhooks = webhooks

    async def create(self, wanted: SubscriptionInput) -> Subscription:
        """Makes a subscription.

        Raises:
            Conflict: FF10193, the name is taken.
            Rejected: FF00140 name, FF10172 transport, FF10171 filter, FF10191 or FF10192 first
                event, FF10244 or FF10460 options that do not go together, FF19010 read-ahead;
                of webhooks FF10242, FF10243, FF10455 and those of `read_webhook_options`.
            Exhausted: FF19009, there are too many.
        """
        made, _ = await self._save(wanted, may_replace=False)
        return made

    async def put(self, wanted: SubscriptionInput) -> Subscription:
        """Makes a subscription or replaces filter and options of the one with that name.

        The position of an existing one stays. Raises as `create`, but for the conflict.
        """
        made, _ = await self._save(wanted, may_replace=True)
        return made

    async def delete(self, subscription: Uuid) -> None:
        """Deletes a subscription and its position; connections on it get no more events.

        Raises:
            NotFound: FF10109.
        """
        async with self._store.write(self._namespace) as tx:
            if not await tx.delete_subscription(subscription):
                raise NotFound("FF10109")

    async def get(self, subscription: Uuid) -> Subscription:
        """Finds a subscription.

        Raises:
            NotFound: FF00164.
        """
        async with self._store.read(self._namespace) as reader:
            found = await reader.subscription(subscription)
        if found is None:
            raise NotFound("FF00164")
        return found

    async def offset(self, subscription: Uuid) -> int | None:
        """Sequence of the last event that needs no delivery any more; None before the first ack."""
        async with self._store.read(self._namespace) as reader:
            return await reader.offset(subscription)

    async def _save(
        self, wanted: SubscriptionInput, *, may_replace: bool
    ) -> tuple[Subscription, bool]:
        names.check_name_not_uuid(wanted.name, "name")
        transport = check_transport(wanted.transport)
        filters, filter_json = parse_filter(wanted.filter_json)
        compile_filter(filters)
        given = parse_options(wanted.options_json, self._settings)
        now = self._clock.now()
        async with self._store.write(self._namespace) as tx:
            existing = await tx.subscription_by_name(wanted.name)
            if existing is not None and not may_replace:
                raise Conflict("FF10193", "subscription", self._namespace, wanted.name)
            limit = self._settings.subscriptions_max
            if existing is None and len(await tx.subscriptions()) >= limit:
                raise Exhausted("FF19009", limit, "subscriptions")
            if existing is not None:
                transport = existing.transport
            options = settle_options(given, transport, self._webhooks)
            if existing is None:
                first = await resolve_first_event(tx, options.first_event)
            else:
                first = int(existing.first_event)
            made = Subscription(
                id=new_uuid() if existing is None else existing.id,
                namespace=self._namespace,
                name=wanted.name,
                transport=transport,
                filter=filters,
                filter_json=filter_json,
                options_json=show_options(options, first),
                first_event=str(first),
                read_ahead=options.read_ahead,
                with_data=options.with_data,
                batch=options.batch,
                batch_timeout_ms=options.batch_timeout_ms,
                created=now if existing is None else existing.created,
                updated=None if existing is None else now,
            )
            await tx.save_subscription(made, None)
        return made, existing is None


def ephemeral(
    namespace: Namespace,
    filter_json: str,
    options_json: str,
    now: Nanoseconds,
    settings: SubscriptionSettings = SUBSCRIPTION_DEFAULTS,
) -> Subscription:
    """Makes a subscription that lives as long as a connection; nothing is stored.

    Raises:
        Rejected: as `SubscriptionService.create`.
    """
    filters, shown = parse_filter(filter_json)
    compile_filter(filters)
    options = settle_options(parse_options(options_json, settings), WEBSOCKETS)
    subscription_id = new_uuid()
    return Subscription(
        id=subscription_id,
        namespace=namespace,
        name=subscription_id,
        transport=WEBSOCKETS,
        filter=filters,
        filter_json=shown,
        options_json=options_json or "{}",
        first_event=options.first_event,
        read_ahead=options.read_ahead,
        with_data=False,
        batch=options.batch,
        batch_timeout_ms=options.batch_timeout_ms,
        created=now,
    )


async def resolve_first_event(reader: Reader, first_event: str) -> int:
    """Turns where delivery begins into the sequence behind which it does."""
    if first_event == NEWEST:
        return await reader.last_event_sequence()
    return -1 if first_event == OLDEST else int(first_event)


def check_transport(transport: str) -> str:
    """Checks a transport; empty means websockets.

    Raises:
        Rejected: FF10172 unknown, FF10266 internal.
    """
    if transport == "system":
        raise Rejected("FF10266")
    if transport and transport not in TRANSPORTS:
        raise Rejected("FF10172", transport)
    return transport or WEBSOCKETS


def settle_options(
    options: Options, transport: str, webhooks: WebhookSettings = WEBHOOK_DEFAULTS
) -> Options:
    """Checks options against each other and the transport, and fills in what that decides.

    Raises:
        Rejected: FF10244 data over WebSockets, FF10460 batches with data; those of
            `read_webhook_options`.
    """
    if options.batch and options.with_data:
        raise Rejected("FF10460")
    if transport == WEBSOCKETS and options.with_data:
        raise Rejected("FF10244")
    if transport == WEBHOOKS:
        read_webhook_options(dict(options.other), webhooks)
        if "withData" not in options.said:
            options = replace(options, with_data=not options.batch)
    return options


_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_options(text: str, settings: SubscriptionSettings = SUBSCRIPTION_DEFAULTS) -> Options:
    """Reads FireFly's options object.

    Raises:
        Rejected: FF10103 it is no object or an option has the wrong type, FF10191 or FF10192 first
            event, FF00137 duration, FF19010 read-ahead.
    """
    try:
        raw = _object_decoder.decode(canonical.compact(text)) if text else {}
        members = {name: bytes(value).decode() for name, value in raw.items()}
        given = {
            name: msgspec.json.decode(members[name])
            for name in CORE_OPTIONS
            if members.get(name, "null") != "null"
        }
    except (msgspec.DecodeError, ValueError, RecursionError) as failure:
        raise Rejected("FF10103", failure) from failure
    batch = _boolean(given, "batch")
    return Options(
        first_event=parse_first_event(given.get("firstEvent")),
        read_ahead=_read_ahead(given.get("readAhead"), settings.batch_size if batch else 0),
        with_data=_boolean(given, "withData"),
        batch=batch,
        batch_timeout_ms=_milliseconds(given.get("batchTimeout"), settings.batch_timeout_ms),
        batch_timeout=str(given.get("batchTimeout") or ""),
        other=tuple((name, members[name]) for name in members if name not in CORE_OPTIONS),
        said=frozenset(given),
    )


def parse_first_event(value: object) -> str:
    """Reads `firstEvent`.

    Raises:
        Rejected: FF10191 it is neither a word nor a number, FF10192 it is below -1.
    """
    if value is None or value == "":
        return NEWEST
    text = str(value)
    if text in {OLDEST, NEWEST}:
        return text
    if not re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII):
        raise Rejected("FF10191", text[:100])
    if int(text) < -1:
        raise Rejected("FF10192", -1)
    return str(int(text))


def _boolean(given: dict[str, object], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise Rejected("FF19002", f"options.{name}", "must be true or false")
    return value


def _read_ahead(value: object, usual: int) -> int:
    if value is None:
        return usual
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= READ_AHEAD_MAX:
        raise Rejected("FF19010", "options.readAhead", 0, READ_AHEAD_MAX, value)
    return value


def _milliseconds(value: object, usual: int) -> int:
    """Reads a Go duration, or a bare number of milliseconds."""
    if value is None or value == "":
        return usual
    text = str(value)
    found = milliseconds_of(text)
    if found > BATCH_TIMEOUT_MS_MAX:
        raise Rejected("FF19010", "options.batchTimeout", 0, BATCH_TIMEOUT_MS_MAX, text[:100])
    return round(found)


def show_options(options: Options, first_event: int) -> str:
    """Writes options as FireFly shows them: all members sorted by name, the position a number."""
    members = dict(options.other)
    members["firstEvent"] = f'"{first_event}"'
    members["withData"] = "true" if options.with_data else "false"
    if "readAhead" in options.said or options.batch:
        members["readAhead"] = str(options.read_ahead)
    if "batch" in options.said:
        members["batch"] = "true" if options.batch else "false"
    if options.batch_timeout or options.batch:
        shown = options.batch_timeout or f"{options.batch_timeout_ms}ms"
        members["batchTimeout"] = canonical.quote(shown)
    written = ",".join(f"{canonical.quote(name)}:{members[name]}" for name in sorted(members))
    return f"{{{written}}}"


__all__ = [
    "Options",
    "SubscriptionFilter",
    "SubscriptionInput",
    "SubscriptionService",
    "ephemeral",
    "resolve_first_event",
]
