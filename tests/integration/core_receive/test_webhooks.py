"""Webhook subscriptions: calls in order, failures, dead letters, replicas, changes while they run.

Method: events are appended to a real store; the webhooks of one or two replicas call a real HTTP
server; replies go into a list.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from photinus_core.cluster import LocalElector
from photinus_core.events.dead_letters import DeadLetterService
from photinus_core.events.delivery import DeliveryService
from photinus_core.events.enrichment import EnrichedEvent
from photinus_core.events.subscriptions import SubscriptionInput, SubscriptionService
from photinus_core.events.turns import SubscriptionTurns, subscription_role
from photinus_core.events.webhook_options import WEBHOOK_DEFAULTS, TlsSet, WebhookSettings
from photinus_core.events.webhook_requests import Reply
from photinus_core.events.webhooks import WebhookParts, Webhooks
from photinus_core.model.errors import NotFound, Rejected, Unavailable
from photinus_core.model.events import DeadLetter, EventType, NewEvent, Subscription
from photinus_core.model.ids import Nanoseconds, Uuid, new_uuid
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.store import Store, Table

from tests.integration.core_receive.senders import NS
from tests.integration.core_receive.test_delivery import Client, append, running
from tests.support.certificates import self_signed
from tests.support.electors import Ensemble, EnsembleElector
from tests.support.hooks import Hook, HookServer, accept, answering, hook_server
from tests.support.store_records import make_data, write
from tests.support.waiting import until

FAST_RETRY = replace(
    WEBHOOK_DEFAULTS, retries=replace(WEBHOOK_DEFAULTS.retries, first_s=0.01, cap_s=0.02)
)


def show(subscription: Subscription, event: EnrichedEvent) -> str:
    return json.dumps({"sequence": event.event.sequence, "subscription": subscription.name})


class Replica:
    """The webhooks of one replica."""

    def __init__(self, store: Store, elector: Any, settings: WebhookSettings) -> None:
        clock = SystemClock()
        self.replies: list[Reply] = []
        self.delivery = DeliveryService(store, NS, clock, SubscriptionTurns(NS, elector))
        self.letters = DeadLetterService(store, NS, clock, limit=3)
        self.subscriptions = SubscriptionService(store, NS, clock, webhooks=settings)
        self._webhooks = Webhooks(
            WebhookParts(self.delivery, self.letters, settings, show, self._reply)
        )

    async def _reply(self, reply: Reply) -> None:
        self.replies.append(reply)

    async def hook(self, url: str, name: str = "hook", **options: object) -> Uuid:
        given = {"url": url, "firstEvent": "oldest", "withData": False, **options}
        made = await self.subscriptions.put(
            SubscriptionInput(name, transport="webhooks", options_json=json.dumps(given))
        )
        return made.id

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.delivery.run())
            group.create_task(self._webhooks.run())


@asynccontextmanager
async def replica_of(
    store: Store, elector: Any = None, settings: WebhookSettings = FAST_RETRY
) -> AsyncIterator[Replica]:
    made = Replica(store, elector or LocalElector(store), settings)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=1)


@pytest.fixture
async def hooks() -> AsyncIterator[HookServer]:
    async with hook_server() as made:
        yield made


@pytest.fixture
async def replica(store: Store) -> AsyncIterator[Replica]:
    async with replica_of(store) as made:
        yield made


def sequences(hooks: HookServer, path: str = "") -> list[int]:
    return [hook.json["sequence"] for hook in hooks.got if hook.path.startswith(path)]


async def parked(store: Store, subscription: Uuid) -> list[DeadLetter]:
    """Dead letters, oldest first."""
    query = parse_query_string(
        Table.DEAD_LETTERS, f"subscription={subscription}&sort=sequence&ascending"
    )
    async with store.read(NS) as reader:
        found: list[DeadLetter] = (await reader.query(Table.DEAD_LETTERS, query)).items
    return sorted(found, key=lambda letter: letter.event_sequence)


async def until_parked(store: Store, subscription: Uuid, count: int) -> list[DeadLetter]:
    async with asyncio.timeout(30):
        while len(found := await parked(store, subscription)) != count:
            await asyncio.sleep(0.01)
    return found


async def until_offset(replica: Replica, subscription: Uuid, offset: int) -> None:
    async with asyncio.timeout(30):
        while await replica.subscriptions.offset(subscription) != offset:
            await asyncio.sleep(0.01)


async def confirm(store: Store, *values: str, cid: Uuid | None = None) -> Uuid:
    """Stores a message with values, and the event that it is confirmed."""
    made = write(*(make_data(value) for value in values), tag="ask")
    if cid is not None:
        header = msgspec.structs.replace(made.message.header, cid=cid)
        made = replace(made, message=msgspec.structs.replace(made.message, header=header))
    async with store.write(NS) as tx:
        await tx.insert_messages([made])
        kind, reference = EventType.MESSAGE_CONFIRMED, made.message.header.id
        tx.append_events([NewEvent(new_uuid(), kind, NS, reference, Nanoseconds(1))])
    return reference


# What FireFly's subscriptions do


async def test_events_are_posted_in_order_and_acked(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    subscription = await replica.hook(hooks.url + "/in", readAhead=10, query={"q": "1"})
    await append(store, 5)
    await until_offset(replica, subscription, 5)
    assert sequences(hooks) == [1, 2, 3, 4, 5]
    first = hooks.got[0]
    assert (first.method, first.path) == ("POST", "/in?q=1")
    assert first.headers["content-type"] == "application/json"
    assert first.headers["accept"] == "application/json"
    assert first.headers["accept-encoding"] == "gzip"
    assert first.headers["user-agent"].startswith("photinus/")


async def test_data_of_messages_are_the_body(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    await replica.hook(hooks.url, withData=True)
    await confirm(store, '{"k":"v"}')
    await confirm(store, "5", '{"two":2}')
    await append(store, 1)
    await until(lambda: len(hooks.got) == 3)
    assert [hook.body for hook in hooks.got[:2]] == [b'{"k":"v"}', b'[5,{"two":2}]']
    assert hooks.got[2].json == {"sequence": 3, "subscription": "hook"}


async def test_batches_are_arrays_acked_as_one(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    await append(store, 5)
    subscription = await replica.hook(hooks.url, batch=True, readAhead=3)
    await until_offset(replica, subscription, 5)
    got = [[event["sequence"] for event in hook.json] for hook in hooks.got]
    assert [sequence for batch in got for sequence in batch] == [1, 2, 3, 4, 5]
    assert max(map(len, got)) == 3


async def test_failures_are_acked_after_their_repetitions(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    hooks.handler = answering(500, 503, 200, 404)
    retry = {"enabled": True, "count": 2, "initialDelay": "1ms", "maxDelay": "2ms"}
    subscription = await replica.hook(hooks.url, retry=retry)
    await append(store, 2)
    await until_offset(replica, subscription, 2)
    assert sequences(hooks) == [1, 1, 1, 2, 2, 2]
    assert await parked(store, subscription) == []


async def test_a_target_that_is_not_there_loses_events_as_in_firefly(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    subscription = await replica.hook("http://127.0.0.1:1/")
    await append(store, 3)
    await until_offset(replica, subscription, 3)


async def test_replies_carry_the_result_and_replies_are_not_replied_to(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    subscription = await replica.hook(hooks.url, reply=True, replytag="re", withData=True)
    asked = await confirm(store, "{}")
    await confirm(store, "{}", cid=asked)
    await append(store, 1)
    await until_offset(replica, subscription, 3)
    assert len(hooks.got) == 2, "the reply was not sent on"
    (reply,) = replica.replies
    assert (reply.cid, reply.tag, reply.topics) == (asked, "re", ("topic1",))
    result = json.loads(reply.value)
    assert (result["status"], result["body"]) == (200, {"ok": True})
    assert result["headers"]["X-Sample"] == "s1"


async def test_who_gets_no_answer_replies_with_a_bad_gateway(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    subscription = await replica.hook(
        hooks.url, reply=True, withData=True, httpOptions={"requestTimeout": "50ms"}
    )
    hooks.handler = hooks.never
    await confirm(store, "{}")
    await until_offset(replica, subscription, 1)
    result = json.loads(replica.replies[0].value)
    assert result["status"] == 502
    assert "no answer in time" in result["body"]["error"]


async def test_data_that_make_no_request_stop_nothing(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    subscription = await replica.hook(hooks.url, withData=True, input={"path": "p"})
    for value in ('{"p":"../x"}', '{"p":"ok"}'):
        await confirm(store, value)
    await until_offset(replica, subscription, 2)
    assert hooks.paths() == ["/ok"]


async def test_fast_acks_call_side_by_side(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    hooks.handler = hooks.never
    subscription = await replica.hook(hooks.url, fastack=True)
    await append(store, 4)
    await until(lambda: hooks.silent == 4)
    await until_offset(replica, subscription, 4)


async def test_more_calls_than_there_are_slots_go_one_by_one(
    store: Store, hooks: HookServer
) -> None:
    """Those of one subscription hang; the other one is served all the same."""
    settings = replace(FAST_RETRY, calls_max=2)
    async with replica_of(store, settings=settings) as replica:
        hung: list[str] = []

        async def hang(hook: Hook) -> web.StreamResponse:
            hung.append(hook.path)
            return await (hooks.never(hook) if hook.path == "/hung" else accept(hook))

        hooks.handler = hang
        await replica.hook(f"{hooks.url}/hung", "hung", fastack=True)
        await append(store, 5)
        await until(lambda: hung.count("/hung") == 3)
        await replica.hook(f"{hooks.url}/free", "free", fastack=True)
        await until(lambda: hung.count("/free") == 5)
        assert hung.count("/hung") == 3, "two in slots, one in its own"


async def test_a_target_that_never_answers_delays_nobody_else(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    async def some_hang(hook: Hook) -> web.StreamResponse:
        return await (hooks.never(hook) if hook.path == "/hung" else accept(hook))

    hooks.handler = some_hang
    for number in range(3):
        await replica.hook(f"{hooks.url}/hung", f"hung{number}")
    await append(store, 1)
    await until(lambda: hooks.silent == 3)
    subscription = await replica.hook(f"{hooks.url}/free", "free")
    await append(store, 3)
    await until_offset(replica, subscription, 4)
    assert hooks.silent == 3


async def test_connections_of_applications_do_not_take_a_webhooks_events(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    client = Client()
    async with running(replica.delivery.start_durable("hook", client.deliver)):
        subscription = await replica.hook(hooks.url)
        await append(store, 2)
        await until_offset(replica, subscription, 2)
    assert client.got == []


# Changes


async def test_a_changed_subscription_calls_the_new_target_at_once(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    hooks.handler = hooks.never
    await replica.hook(f"{hooks.url}/old")
    await append(store, 1)
    await until(lambda: hooks.silent == 1)
    hooks.handler = accept
    subscription = await replica.hook(f"{hooks.url}/new")
    await until_offset(replica, subscription, 1)
    assert hooks.paths() == ["/old", "/new"]
    await until(lambda: hooks.silent == 0)


async def test_a_deleted_subscription_ends_its_call_and_leaves_nothing(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    hooks.handler = hooks.never
    subscription = await replica.hook(hooks.url)
    await append(store, 2)
    await until(lambda: hooks.silent == 1)
    await replica.subscriptions.delete(subscription)
    await until(lambda: hooks.silent == 0)
    assert len(hooks.got) == 1
    assert await replica.subscriptions.offset(subscription) is None


async def test_a_certificate_set_that_is_gone_stops_its_subscription_only(
    store: Store, hooks: HookServer
) -> None:
    settings = replace(FAST_RETRY, tls_sets=(("own", TlsSet()),))
    async with replica_of(store, settings=settings) as replica:
        broken = await replica.hook(hooks.url, "broken", tlsConfigName="own")
    async with replica_of(store) as replica:
        good = await replica.hook(hooks.url, "good")
        await append(store, 1)
        await until_offset(replica, good, 1)
        assert await replica.subscriptions.offset(broken) is None, "it waits, nothing is lost"


# TLS, hosts


async def test_certificates_by_name(store: Store, tmp_path: Path) -> None:
    server, client = self_signed(tmp_path, "server"), self_signed(tmp_path, "client")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client.certificate))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.certificate, server.key)
    files = TlsSet(
        ca_file=str(server.certificate),
        cert_file=str(client.certificate),
        key_file=str(client.key),
    )
    texts = TlsSet(
        ca=server.certificate.read_text(),
        cert=client.certificate.read_text(),
        key=client.key.read_text(),
    )
    sets = (("files", files), ("texts", texts), ("bare", TlsSet(verify_host=False)))
    settings = replace(FAST_RETRY, tls_sets=sets)
    async with hook_server(context) as hooks, replica_of(store, settings=settings) as replica:
        await append(store, 1)
        for name in ("files", "texts", "bare"):
            made = await replica.hook(
                f"{hooks.url}/{name}", name, tlsConfigName=name, deadLetter=name == "bare"
            )
            if name == "bare":
                (letter,) = await until_parked(store, made, 1)
                assert letter.status == 0
            else:
                await until_offset(replica, made, 1)
        assert hooks.paths() == ["/files", "/texts"]


async def test_hosts_that_are_not_allowed_are_not_called_even_when_redirected_to(
    store: Store, hooks: HookServer
) -> None:
    async with hook_server() as other:
        allowed = hooks.url.removeprefix("http://")
        settings = replace(FAST_RETRY, allowed_hosts=(allowed,), retry=False)
        async with replica_of(store, settings=settings) as replica:
            with pytest.raises(Rejected, match="FF19017"):
                await replica.hook(other.url)

            async def away(_hook: Hook) -> web.StreamResponse:
                raise web.HTTPTemporaryRedirect(other.url)

            hooks.handler = away
            subscription = await replica.hook(hooks.url, deadLetter=True, retry={"enabled": False})
            await append(store, 1)
            (letter,) = await until_parked(store, subscription, 1)
            assert "not allowed" in letter.error
        assert other.got == []


async def test_a_proxy_is_asked_for_the_target(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    subscription = await replica.hook(
        "http://target.invalid/in", httpOptions={"proxyURL": hooks.url}
    )
    await append(store, 1)
    await until_offset(replica, subscription, 1)
    assert hooks.got[0].headers["host"] == "target.invalid"


# Dead letters


async def test_failed_events_are_parked_tried_again_and_dropped(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    hooks.handler = answering(503)
    subscription = await replica.hook(
        hooks.url, deadLetter=True, retry={"enabled": True, "count": 1}
    )
    await append(store, 3)
    letters = await until_parked(store, subscription, 3)
    await until_offset(replica, subscription, 3)
    assert [letter.event_sequence for letter in letters] == [1, 2, 3]
    assert {(x.attempts, x.status, x.error) for x in letters} == {(2, 503, "answered 503")}
    await replica.letters.drop(subscription, letters[1].id)
    with pytest.raises(NotFound, match="FF00164"):
        await replica.letters.drop(subscription, letters[1].id)
    with pytest.raises(NotFound, match="FF00164"):
        await replica.letters.retry(subscription, letters[1].id)
    with pytest.raises(NotFound, match="FF00164"):
        await replica.letters.retry_all(new_uuid())
    # Still down: it is parked again, with what is known now.
    before = len(hooks.got)
    await replica.letters.retry(subscription, letters[0].id)
    await until(lambda: len(hooks.got) == before + 2)
    async with asyncio.timeout(30):
        while (again := (await parked(store, subscription))[0]).state != "parked":
            await asyncio.sleep(0.01)
    assert (again.id, again.attempts) == (letters[0].id, 4)
    hooks.handler = accept
    assert await replica.letters.retry_all(subscription) == 2
    await until_parked(store, subscription, 0)
    assert sequences(hooks)[-2:] == [1, 3]


async def test_a_full_list_holds_delivery_up_and_loses_nothing(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    hooks.handler = answering(500)
    subscription = await replica.hook(
        hooks.url, deadLetter=True, readAhead=5, retry={"enabled": False}
    )
    await append(store, 5)
    letters = await until_parked(store, subscription, 3)
    await until(lambda: sequences(hooks).count(4) >= 2)
    assert sequences(hooks).count(5) == 0
    await until_offset(replica, subscription, 3)
    for letter in letters[:2]:
        await replica.letters.drop(subscription, letter.id)
    assert [x.event_sequence for x in await until_parked(store, subscription, 3)] == [3, 4, 5]
    await until_offset(replica, subscription, 5)


async def test_a_retried_question_is_replied_to(
    store: Store, replica: Replica, hooks: HookServer
) -> None:
    hooks.handler = answering(500)
    subscription = await replica.hook(
        hooks.url, deadLetter=True, reply=True, withData=True, retry={"enabled": False}
    )
    asked = await confirm(store, '{"a":1}')
    (letter,) = await until_parked(store, subscription, 1)
    assert replica.replies == [], "it may still be answered"
    hooks.handler = accept
    await replica.letters.retry(subscription, letter.id)
    await until_parked(store, subscription, 0)
    assert [reply.cid for reply in replica.replies] == [asked]
    assert hooks.got[-1].body == b'{"a":1}'


async def test_a_database_that_is_away_when_parking_brings_the_event_again(
    store: Store, replica: Replica, hooks: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [Unavailable("FF19100")]
    park = DeadLetterService.park

    async def failing(*arguments: Any) -> bool:
        if failures:
            raise failures.pop()
        return await park(*arguments)

    monkeypatch.setattr(DeadLetterService, "park", failing)
    hooks.handler = answering(500)
    subscription = await replica.hook(hooks.url, deadLetter=True, retry={"enabled": False})
    await append(store, 1)
    await until_parked(store, subscription, 1)
    await until_offset(replica, subscription, 1)
    assert sequences(hooks) == [1, 1]


# Replicas


async def test_one_replica_calls_and_another_goes_on_when_it_is_deposed(
    store: Store, hooks: HookServer
) -> None:
    """The first one is cut off in the middle of a call; what it knows of it counts no more."""
    ensemble = Ensemble(store)
    async with (
        replica_of(store, EnsembleElector(ensemble)) as first,
        replica_of(store, EnsembleElector(ensemble)),
    ):
        subscription = await first.hook(hooks.url)
        await append(store, 3)
        await until_offset(first, subscription, 3)
        assert sequences(hooks) == [1, 2, 3], "each once, by one of them"
        hooks.handler = hooks.never
        await append(store, 1)
        await until(lambda: hooks.silent == 1)
        hooks.handler = accept
        ensemble.expire(subscription_role(NS, subscription))
        await until_offset(first, subscription, 4)
        assert sequences(hooks) == [1, 2, 3, 4, 4]
        await append(store, 2)
        await until_offset(first, subscription, 6)
        assert sequences(hooks)[-2:] == [5, 6]


async def test_a_replica_that_ends_hands_its_webhooks_over(store: Store, hooks: HookServer) -> None:
    ensemble = Ensemble(store)
    async with replica_of(store, EnsembleElector(ensemble)) as first:
        subscription = await first.hook(hooks.url)
        await append(store, 2)
        await until_offset(first, subscription, 2)
        async with replica_of(store, EnsembleElector(ensemble)) as second:
            # Whoever has the turn: the other one stands by until it ends.
            await append(store, 2)
            await until_offset(second, subscription, 4)
    async with replica_of(store, EnsembleElector(ensemble)) as third:
        await append(store, 1)
        await until_offset(third, subscription, 5)
    assert sequences(hooks) == [1, 2, 3, 4, 5]


async def test_nothing_is_called_while_the_lease_is_in_doubt(
    store: Store, hooks: HookServer
) -> None:
    ensemble = Ensemble(store)
    async with replica_of(store, EnsembleElector(ensemble)) as replica:
        subscription = await replica.hook(f"{hooks.url}/doubtful")
        await append(store, 1)
        await until_offset(replica, subscription, 1)
        role = subscription_role(NS, subscription)
        ensemble.doubt(role)
        other = await replica.hook(f"{hooks.url}/certain", "other")
        await append(store, 1)
        await until_offset(replica, other, 2)
        assert sequences(hooks, "/doubtful") == [1]
        ensemble.trust(role)
        await until_offset(replica, subscription, 2)
    assert sequences(hooks, "/doubtful") == [1, 2]


async def test_dead_letters_are_tried_again_once_in_the_cluster(
    store: Store, hooks: HookServer
) -> None:
    ensemble = Ensemble(store)
    async with (
        replica_of(store, EnsembleElector(ensemble)) as first,
        replica_of(store, EnsembleElector(ensemble)) as second,
    ):
        hooks.handler = answering(500)
        subscription = await first.hook(hooks.url, deadLetter=True, retry={"enabled": False})
        await append(store, 1)
        (letter,) = await until_parked(store, subscription, 1)
        hooks.handler = accept
        for replica in (first, second):
            await replica.letters.retry_all(subscription)
        await until_parked(store, subscription, 0)
        await first.letters.retry_all(subscription)
        await append(store, 1)
        await until_offset(first, subscription, 2)
        assert sequences(hooks) == [letter.event_sequence, 1, 2]
