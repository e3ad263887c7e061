"""Who signs: every row of FireFly's table of authors and keys (internals 6.5), and who is where.

Method: the real SQLite store with a few identities, and a ledger in memory that holds some keys.
"""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from photinus_core.host.fakes import FakeBlockchain, FakeWorld
from photinus_core.identity.resolution import IdentityResolver
from photinus_core.model.errors import PhotinusError, Rejected, Unavailable
from photinus_core.model.ids import Did, Namespace, Nanoseconds, Uuid
from photinus_core.model.network import Identity, IdentityBase, IdentityType, Verifier, VerifierType
from photinus_core.ports.connectors import KeyIntent, ResolvedKey
from photinus_core.store import SqliteStore

from tests.support.store_records import new_hash

NS = Namespace("alpha")
HELD = ("0xroot", "0xchild", "0xloose", "0xcustom")


UNKNOWN = Uuid("0190a3c2-0000-7000-8000-00000000ffff")
"""Ids are the same in each run, since tests are named by them."""


def identity(name: str, kind: IdentityType, parent: Uuid | None = None) -> Identity:
    prefix = {"org": "org/", "node": "node/", "custom": ""}[kind]
    number = Uuid(str(uuid.uuid5(uuid.NAMESPACE_DNS, name)))
    base = IdentityBase(number, Did(f"did:firefly:{prefix}{name}"), kind, "net", name, parent)
    return Identity(base, NS, Nanoseconds(1), Nanoseconds(1))


ROOT = identity("root", IdentityType.ORG)
CHILD = identity("child", IdentityType.ORG, ROOT.base.id)
BARE = identity("bare", IdentityType.ORG)
AFAR = identity("afar", IdentityType.ORG)
CUSTOM = identity("custom", IdentityType.CUSTOM, CHILD.base.id)
NODE = identity("node0", IdentityType.NODE, ROOT.base.id)
LATER = identity("node1", IdentityType.NODE, ROOT.base.id)
KEYS = {ROOT: "0xroot", CHILD: "0xchild", AFAR: "0xafar", CUSTOM: "0xcustom"}


@pytest.fixture
async def ledger() -> AsyncIterator[FakeBlockchain]:
    async with FakeWorld() as world:
        made = world.member("alice").blockchain
        made._keys = HELD
        yield made


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "core.db")
    async with opened.write(NS) as tx:
        for known in (ROOT, CHILD, BARE, AFAR, CUSTOM, NODE, LATER):
            await tx.upsert_identity(known)
        peer = verifier(NODE, "peer0", VerifierType.DX_PEER_ID)
        chain = [verifier(owner, key) for owner, key in KEYS.items()]
        await tx.insert_verifiers([*chain, peer, verifier(BARE, "p", VerifierType.DX_PEER_ID)])
    yield opened
    await opened.aclose()


def verifier(
    owner: Identity, value: str, kind: VerifierType = VerifierType.ETHEREUM_ADDRESS
) -> Verifier:
    return Verifier(new_hash(), owner.base.id, NS, kind, value, Nanoseconds(1))


@pytest.fixture
def resolver(store: SqliteStore, ledger: FakeBlockchain) -> IdentityResolver:
    return IdentityResolver(store, NS, ledger, org_name="root", org_key="0xROOT")


@pytest.mark.parametrize(
    ("author", "key", "signer", "signs"),
    [
        ("", "", ROOT, "0xroot"),
        ("", "0xChild", CHILD, "0xchild"),
        ("", "0xcustom", CUSTOM, "0xcustom"),
        ("child", "0xchild", CHILD, "0xchild"),
        (CHILD.base.did, "0xchild", CHILD, "0xchild"),
        (f"did:firefly:org/{CHILD.base.id}", "0xchild", CHILD, "0xchild"),
        (CUSTOM.base.did, "0xcustom", CUSTOM, "0xcustom"),
        ("child", "", CHILD, "0xchild"),
        (CUSTOM.base.did, "", CUSTOM, "0xcustom"),
        (f"did:firefly:org/{CHILD.base.id.upper()}", "", CHILD, "0xchild"),
    ],
)
async def test_who_signs(
    resolver: IdentityResolver, author: str, key: str, signer: Identity, signs: str
) -> None:
    for _ in range(2):  # the second time from memory
        found = await resolver.resolve_signer(author, key)
        assert (found.author, found.key) == (signer.base.did, signs)


@pytest.mark.parametrize(
    ("author", "key", "cause"),
    [
        ("", "0xloose", "FF10356"),
        ("child", "0xloose", "FF10356"),
        ("nobody", "0xloose", "FF10277"),
        ("child", "0xroot", "FF10355"),
        ("nobody", "0xroot", "FF10355"),
        ("nobody", "", "FF10277"),
        ("did:firefly:nobody", "", "FF10277"),
        (f"did:firefly:org/{UNKNOWN}", "", "FF10277"),
        ("bare", "", "FF10353"),
        ("afar", "", "FF19015"),
        ("", "0xafar", "FF19015"),
        ("", "no key", "FF19015"),
    ],
)
async def test_who_cannot_sign(
    resolver: IdentityResolver, author: str, key: str, cause: str
) -> None:
    with pytest.raises(Rejected) as caught:
        await resolver.resolve_signer(author, key)
    assert caught.value.code == "FF10206"
    assert f"FF10206: Invalid author specified: {cause}: " in str(caught.value)


async def test_a_key_nobody_registered_goes_with_a_known_author_where_allowed(
    resolver: IdentityResolver,
) -> None:
    found = await resolver.resolve_signer("child", "0xloose", unregistered_key_ok=True)
    assert (found.author, found.key) == (CHILD.base.did, "0xloose")
    for author in ("", "nobody"):
        with pytest.raises(Rejected, match="FF10206"):
            await resolver.resolve_signer(author, "0xloose", unregistered_key_ok=True)


async def test_the_default_key_comes_before_the_organisations(
    store: SqliteStore, ledger: FakeBlockchain
) -> None:
    both = IdentityResolver(
        store, NS, ledger, org_name="root", org_key="0xroot", default_key="0xloose"
    )
    assert (await both.resolve_signer("", "")).key == "0xloose"
    assert (await both.org_key()).key == "0xroot"
    other = IdentityResolver(store, NS, ledger, org_name="root", default_key="0xchild")
    assert (await other.org_key()).key == "0xchild"
    with pytest.raises(Rejected, match=r"FF10206.*FF10355"):
        await other.resolve_signer("", "")
    none = IdentityResolver(store, NS, ledger, org_name="root")
    assert (await none.resolve_signer("", "")).key == "0xroot"  # the ledger's own default


async def test_without_ledger_or_organisation(store: SqliteStore, ledger: FakeBlockchain) -> None:
    for lone in (
        IdentityResolver(store, NS, None, org_name="root"),
        IdentityResolver(store, NS, ledger),
    ):
        with pytest.raises(Rejected, match=r"FF10206.*FF10354"):
            await lone.resolve_signer("", "")
    unknown = IdentityResolver(store, NS, ledger, org_name="nobody", org_key="0xroot")
    with pytest.raises(Rejected, match=r"FF10206.*FF10277"):
        await unknown.resolve_signer("", "")


async def test_a_ledger_that_is_away_or_answers_nonsense(
    resolver: IdentityResolver, ledger: FakeBlockchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.go_away()
    with pytest.raises(Unavailable):
        await resolver.resolve_signer("", "0xroot")
    ledger.come_back()

    async def nonsense(key: str, _: KeyIntent) -> ResolvedKey:
        return ResolvedKey(key, "postcard")

    monkeypatch.setattr(ledger, "resolve_key", nonsense)
    with pytest.raises(Unavailable, match="FF19202"):
        await resolver.resolve_signer("", "0xroot")


async def test_what_is_remembered_is_not_asked_again_and_misses_are(
    resolver: IdentityResolver, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await resolver.by_did("did:firefly:org/new") is None
    new = identity("new", IdentityType.ORG)
    async with store.write(NS) as tx:
        await tx.upsert_identity(new)
        await tx.insert_verifiers([verifier(new, "0xloose")])
    assert await resolver.by_did("did:firefly:org/new") == new.base
    assert (await resolver.resolve_signer("", "0xloose")).author == new.base.did

    def closed(*_: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(store, "read", closed)
    assert (await resolver.resolve_signer("new", "0xloose")).author == new.base.did


async def test_memory_is_bounded(
    resolver: IdentityResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("photinus_core.identity.resolution.KEY_CACHE_MAX", 2)
    for key in (*HELD[:2], "0xcustom"):
        await resolver.resolve_signer("", key)
        await resolver.resolve_signer("", key)
    assert max(len(resolver._keys), len(resolver._by_id), len(resolver._by_verifier)) <= 2


async def test_the_node_of_a_member_is_its_own_or_its_nearest_ancestors(
    resolver: IdentityResolver,
) -> None:
    for _ in range(2):
        assert (await resolver.node_for(CUSTOM.base)).id == NODE.base.id
    with pytest.raises(Rejected, match=r"FF10233.*org/bare"):
        await resolver.node_for(BARE.base)
    assert [n.name for n in await resolver.nodes()] == ["node0", "node1"]


async def test_nodes_by_any_name(resolver: IdentityResolver) -> None:
    for name in ("node0", NODE.base.did, NODE.base.id, NODE.base.id.upper()):
        assert (await resolver.node(name)).id == NODE.base.id
    for wrong in ("root", ROOT.base.did, ROOT.base.id, str(UNKNOWN)):
        with pytest.raises(Rejected, match="FF10224"):
            await resolver.node(wrong)


async def test_peers_of_nodes(resolver: IdentityResolver, store: SqliteStore) -> None:
    assert await resolver.peer_of_node(NODE.base.id) == "peer0"
    assert await resolver.peer_of_node(NODE.base.id) == "peer0"
    assert await resolver.peer_of_node(LATER.base.id) is None
    async with store.write(NS) as tx:
        await tx.insert_verifiers([verifier(LATER, "peer1", VerifierType.DX_PEER_ID)])
    assert await resolver.peer_of_node(LATER.base.id) == "peer1"


async def test_descent_and_loops_that_hostile_rows_could_make(
    resolver: IdentityResolver, store: SqliteStore
) -> None:
    assert await resolver.is_within(CUSTOM.base, ROOT.base.id)
    assert await resolver.is_within(ROOT.base, ROOT.base.id)
    assert not await resolver.is_within(ROOT.base, CHILD.base.id)
    one, two = identity("one", IdentityType.ORG), identity("two", IdentityType.ORG)
    loop = [
        msgspec.structs.replace(a, base=msgspec.structs.replace(a.base, parent=b.base.id))
        for a, b in ((one, two), (two, one))
    ]
    async with store.write(NS) as tx:
        for row in loop:
            await tx.upsert_identity(row)
    assert not await resolver.is_within(loop[0].base, ROOT.base.id)
    with pytest.raises(PhotinusError, match="FF10233"):
        await resolver.node_for(loop[0].base)
