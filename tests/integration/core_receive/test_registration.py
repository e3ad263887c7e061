"""Registration end to end on the receiving side: what registration sends is confirmed on two
members.

Method: the definition sender of the test seals and pins at once; both members take the same chain.
Waiting (`confirm=true`) is the product's own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from photinus_core.events.waiting import OutcomeWaiter
from photinus_core.identity.diddocs import did_document
from photinus_core.identity.registration import (
    IdentityInput,
    IdentityRegistration,
    NetworkAccess,
    OwnMember,
    Registering,
)
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model.errors import Conflict, NotFound, Rejected, TimedOut
from photinus_core.model.events import EventType
from photinus_core.model.ids import Namespace, new_uuid
from photinus_core.model.messages import Message, SystemTag
from photinus_core.model.network import Identity, IdentityType
from photinus_core.ports.clock import SystemClock
from photinus_core.ports.connectors import Endpoint, KeyIntent, ResolvedKey
from photinus_core.ports.store import MessageWrite, Store

from tests.integration.core_receive.network import (
    Chain,
    Member,
    SharedDictionary,
    member,
)
from tests.integration.core_receive.senders import (
    NETWORK,
    NS,
    Org,
    claim_org,
    define_datatype,
    definition,
    message,
    seal,
    value_data,
)


class Keys:
    """A ledger that knows keys in lower case."""

    async def resolve_key(self, key: str, intent: KeyIntent) -> ResolvedKey:
        if not key.startswith("0x"):
            raise Rejected("FF10141")
        return ResolvedKey(key.lower(), "ethereum_address")


class Exchange:
    async def endpoint(self, node_name: str) -> Endpoint:
        peer = f"dx/{node_name}"
        return Endpoint(f'{{"id":"{peer}","endpoint":"https://x","cert":"PEM"}}', peer, 0)


@dataclass
class PinningSender:
    """Seals each definition into a batch of its own and gives it to all members."""

    chain: Chain
    members: list[Member]

    async def send_definition(
        self, topic: str, tag: SystemTag, payload_json: str, author: str, key: str
    ) -> Message:
        sent = definition(author, key, topic, tag, payload_json)
        async with self.members[0].store.write(NS) as tx:
            await tx.insert_messages([MessageWrite(sent.messages[0], sent.wire.data)])
            await tx.seal_batch(sent.wire.batch, [(sent.ids[0], ())], {})
        event = self.chain.pin(sent)
        for one in self.members:
            await one.take([event])
        return sent.messages[0]


@dataclass
class Setting:
    alice: Member
    bob: Member
    registration: IdentityRegistration
    waiter: OutcomeWaiter
    sender: PinningSender

    async def done(self, registering: Registering) -> Identity:
        """Waits on both members; gives the identity as alice has it."""
        ids = [m.header.id for m in registering.messages]
        found = await self.waiter.wait_identity(registering.identity.base.did, ids, 5)
        async with asyncio.timeout(30):
            while True:
                async with self.bob.store.read(NS) as reader:
                    theirs = await reader.identity_by_did(found.base.did)
                if theirs is not None and theirs.updated and theirs.update == found.update:
                    break
                await asyncio.sleep(0.01)
        assert (
            theirs.base,
            theirs.profile,
            theirs.claim,
            theirs.verification,
            theirs.position,
        ) == (
            found.base,
            found.profile,
            found.claim,
            found.verification,
            found.position,
        )
        return found


@asynccontextmanager
async def background(waiter: OutcomeWaiter) -> AsyncIterator[None]:
    task = asyncio.create_task(waiter.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    storage = SharedDictionary()
    chain = Chain(storage)
    async with AsyncExitStack() as stack:
        alice, bob = [
            await stack.enter_async_context(member(tmp_path, storage, Org(name), name=f"{name}.db"))
            for name in ("alice", "bob")
        ]
        for one in (alice, bob):
            await stack.enter_async_context(one.running())
        sender = PinningSender(chain, [alice, bob])
        clock = SystemClock()
        resolver = IdentityResolver(
            alice.store,
            NS,
            Keys(),  # type: ignore[arg-type]  # a fake of what is used
            org_name="alice",
            org_key="0xA11CE",
        )
        registration = IdentityRegistration(
            alice.store,
            NS,
            clock,
            resolver,
            OwnMember(NETWORK, "alice", "the org", "alice_node", "the node"),
            NetworkAccess(sender, Exchange()),  # type: ignore[arg-type]  # a fake of what is used
        )
        waiter = OutcomeWaiter(alice.store, NS, clock)
        await stack.enter_async_context(background(waiter))
        yield Setting(alice, bob, registration, waiter, sender)


async def test_organisation_node_child_and_custom_identity(setting: Setting) -> None:
    with pytest.raises(NotFound, match="FF10277"):
        await setting.registration.register_own_node()
    org = await setting.done(await setting.registration.register_own_org())
    assert (org.base.did, org.description, org.base.parent) == (
        "did:firefly:org/alice",
        "the org",
        None,
    )
    node = await setting.done(await setting.registration.register_own_node())
    assert node.base.parent == org.base.id
    assert node.profile == '{"cert":"PEM","endpoint":"https://x","id":"dx/alice_node"}'
    child = await setting.done(
        await setting.registration.register(
            IdentityInput("branch", "org", "did:firefly:org/alice", "0xB1")
        )
    )
    assert child.verification is not None
    custom = await setting.done(
        await setting.registration.register(
            IdentityInput("desk", "", child.base.id, "0xC1", "a desk", '{"b": 1, "a": 2}')
        )
    )
    assert custom.base.did == "did:firefly:desk"
    assert custom.base.parent == child.base.id
    assert custom.profile == '{"a":2,"b":1}'
    item = value_data("from the desk")
    sent = seal([message(custom.base.did, "0xc1", [item])], [item])
    event = setting.sender.chain.pin(sent)
    for one in (setting.alice, setting.bob):
        await one.take([event])
        await one.wait_state(sent)


async def test_an_update_replaces_description_and_profile(setting: Setting) -> None:
    org = await setting.done(await setting.registration.register_own_org())
    changed = await setting.registration.update(org.base.id, "renamed", '{"site": 2}')
    assert changed.event is EventType.IDENTITY_UPDATED
    found = await setting.done(changed)
    assert (found.description, found.profile) == ("renamed", '{"id":"","site":2}')
    assert found.base == org.base
    kinds = [kind for kind, _, _ in await setting.bob.log()]
    assert kinds.count("identity_updated") == 1
    with pytest.raises(Rejected, match="FF10480"):
        await setting.registration.update(org.base.id, "x", None)
    with pytest.raises(NotFound, match="FF10143"):
        await setting.registration.update(new_uuid(), "x", "{}")


async def test_a_changed_node_profile_reaches_the_other_members_data_exchange(
    setting: Setting,
) -> None:
    await setting.done(await setting.registration.register_own_org())
    node = await setting.done(await setting.registration.register_own_node())
    async with asyncio.timeout(30):
        while "dx/alice_node" not in setting.bob.exchange.peers:
            await asyncio.sleep(0.01)
    await setting.done(
        await setting.registration.update(
            node.base.id, "", '{"endpoint":"https://new","cert":"NEW"}'
        )
    )
    async with asyncio.timeout(30):
        while "NEW" not in setting.bob.exchange.peers["dx/alice_node"]:
            await asyncio.sleep(0.01)


async def test_a_second_claim_of_a_name_is_answered_with_the_rejection(setting: Setting) -> None:
    await setting.done(await setting.registration.register_own_org())
    again = await setting.registration.register_own_org()
    with pytest.raises(Rejected, match=r"FF10269.*FF10407.*conflicts with existing"):
        await setting.waiter.wait_identity(
            again.identity.base.did, [m.header.id for m in again.messages], 5
        )


async def test_waiting_ends_when_the_time_is_up(setting: Setting) -> None:
    sent = claim_org(Org("late"))
    setting.sender.chain.storage.hidden.add("nothing")
    async with setting.alice.store.write(NS) as tx:
        await tx.insert_messages([MessageWrite(sent.messages[0], sent.wire.data)])
    with pytest.raises(TimedOut, match="FF10260"):
        await setting.waiter.wait_message(sent.ids[0], 0.05)
    with pytest.raises(NotFound, match="FF10143"):
        await setting.waiter.wait_message(new_uuid(), 1)


@pytest.mark.parametrize(
    ("wanted", "error", "code"),
    [
        (IdentityInput(""), Rejected, "FF00140"),
        (IdentityInput("0b8a5c0e-0000-4000-8000-000000000000"), Rejected, "FF00141"),
        (IdentityInput("x", "node"), Rejected, "FF00126"),
        (IdentityInput("x", key="0x1"), Rejected, "FF00124"),
        (IdentityInput("x", parent="did:firefly:org/absent", key="0x1"), NotFound, "FF10277"),
        (IdentityInput("x", parent="did:firefly:org/alice"), Rejected, "FF10352"),
        (IdentityInput("x", parent="did:firefly:org/alice", key="junk"), Rejected, "FF10141"),
        (IdentityInput("x", "org", "did:firefly:desk", "0x1"), Rejected, "FF10365"),
        (
            IdentityInput("x", parent="did:firefly:org/alice", key="0x1", profile="[]"),
            Rejected,
            "FF00127",
        ),
    ],
)
async def test_wrong_registrations_send_nothing(
    setting: Setting, wanted: IdentityInput, error: type[Exception], code: str
) -> None:
    await setting.done(await setting.registration.register_own_org())
    await setting.done(
        await setting.registration.register(
            IdentityInput("desk", "", "did:firefly:org/alice", "0xC1")
        )
    )
    before = len(setting.sender.chain.events)
    with pytest.raises(error, match=code):
        await setting.registration.register(wanted)
    assert len(setting.sender.chain.events) == before


async def test_own_registration_needs_names_and_a_usable_exchange(setting: Setting) -> None:
    class Nameless:
        async def endpoint(self, node_name: str) -> Endpoint:
            return Endpoint('{"endpoint":"https://x"}', node_name, 0)

    def registration(org: str, node: str) -> IdentityRegistration:
        return IdentityRegistration(
            setting.alice.store,
            NS,
            SystemClock(),
            setting.registration._resolver,
            OwnMember(NETWORK, org, "", node, ""),
            NetworkAccess(setting.sender, Nameless()),  # type: ignore[arg-type]  # a fake of what is used
        )

    with pytest.raises(Rejected, match="FF10216"):
        await registration("", "alice_node").register_own_org()
    with pytest.raises(Rejected, match="FF10216"):
        await registration("alice", "").register_own_node()
    await setting.done(await setting.registration.register_own_org())
    with pytest.raises(Rejected, match="FF10367"):
        await registration("alice", "alice_node").register_own_node()


async def test_a_gateway_namespace_stores_identities_at_once(store: Store) -> None:
    namespace = Namespace("gw")
    resolver = IdentityResolver(store, namespace, Keys())  # type: ignore[arg-type]  # a fake of what is used
    registration = IdentityRegistration(
        store, namespace, SystemClock(), resolver, OwnMember("gw"), None
    )
    with pytest.raises(Rejected, match="FF10414"):
        await registration.register_own_org()
    with pytest.raises(Rejected, match="FF00124"):
        await registration.register(IdentityInput("local1", key="0x1"))
    made = await registration.register(IdentityInput("root", "org", key="0xAB"))
    assert made.messages == ()
    with pytest.raises(Conflict, match="FF10407"):
        await registration.register(IdentityInput("root", "org", key="0xCD"))
    with pytest.raises(Conflict, match="FF10407"):
        await registration.register(IdentityInput("other", "org", key="0xAB"))
    await registration.update(made.identity.base.id, "new", "{}")
    async with store.read(namespace) as reader:
        found = await reader.identity_by_did("did:firefly:org/root")
        assert found is not None
        assert (found.description, found.base.type, found.position) == (
            "new",
            IdentityType.ORG,
            None,
        )
        verifiers = (await reader.verifiers_of([found.base.id]))[found.base.id]
        events = await reader.events_after(0, 10)
    assert [v.value for v in verifiers] == ["0xab"]
    assert [e.type for e in events] == [EventType.IDENTITY_CONFIRMED, EventType.IDENTITY_UPDATED]
    assert '"blockchainAcountId":"0xab"' in did_document(found.base, verifiers)


async def test_waiting_for_an_event_and_for_a_datatype(setting: Setting) -> None:
    org = await setting.done(await setting.registration.register_own_org())
    update = asyncio.create_task(
        setting.waiter.wait_event(org.base.id, [EventType.IDENTITY_UPDATED], 5)
    )
    await asyncio.sleep(0)
    await setting.done(await setting.registration.update(org.base.id, "new", "{}"))
    assert (await update).type is EventType.IDENTITY_UPDATED
    with pytest.raises(TimedOut, match="FF10260"):
        await setting.waiter.wait_event(org.base.id, [EventType.IDENTITY_UPDATED], 0.02)
    sent = define_datatype(Org("alice"), "widget", "1", {"type": "object"})
    (item,) = sent.wire.data
    assert item.value is not None
    made = await setting.sender.send_definition(
        sent.messages[0].header.topics[0],
        SystemTag.DEFINE_DATATYPE,
        item.value,
        "did:firefly:org/alice",
        "0xa11ce",
    )
    datatype = await setting.waiter.wait_datatype("widget", "1", made.header.id, 5)
    assert (datatype.name, datatype.message) == ("widget", made.header.id)
    with pytest.raises(NotFound, match="FF10143"):
        await setting.waiter.wait_datatype("widget", "2", made.header.id, 5)
