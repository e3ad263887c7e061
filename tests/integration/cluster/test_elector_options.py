"""How an ensemble is reached, and what is refused: access, TLS, timeouts, chroots and databases that do not match.

Method: real ZooKeeper servers; each refusal is seen in `trouble` with its code, and nothing is led meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from kazoo.exceptions import MarshallingError
from photinus_core.cluster import (
    ElectionRules,
    EnsembleSession,
    EnsembleSettings,
    LocalElector,
    TlsSettings,
    ZooKeeperElector,
    rebind,
)
from photinus_core.model.errors import Forbidden, Rejected, Unavailable
from photinus_core.model.ids import Epoch
from photinus_core.ports.elector import Replica
from photinus_core.store import SqliteStore

from tests.integration.cluster.conftest import SESSION_S, MakeElector
from tests.support.certificates import SelfSigned, self_signed
from tests.support.waiting import until
from tests.support.zookeeper import SESSION_MAX_S, SESSION_MIN_S, ZooKeeperServer

ROLE = "namespace/alpha"
ME = Replica("me", "unix:me.sock", "1.0", "f")


@pytest.fixture
def settings(ensemble: ZooKeeperServer, chroot: str) -> EnsembleSettings:
    return EnsembleSettings(ensemble.hosts, chroot, SESSION_S)


@asynccontextmanager
async def session_of(settings: EnsembleSettings) -> AsyncIterator[EnsembleSession]:
    async with EnsembleSession(settings) as session:
        session.start()
        async with asyncio.timeout(10):
            await session.answered()
        yield session


async def refused(elector: ZooKeeperElector, code: str) -> None:
    """Sees that the elector says why, and that it leads nothing."""
    campaign = asyncio.create_task(elector.campaign(ROLE))
    await until(lambda: code in elector.trouble)
    assert not campaign.done()
    with pytest.raises(Unavailable, match="FF19150"):
        await elector.members()
    campaign.cancel()
    await asyncio.wait([campaign])


async def wins(elector: ZooKeeperElector) -> Epoch:
    async with asyncio.timeout(10):
        lease = await elector.campaign(ROLE)
    assert lease.running.is_set()
    await elector.resign(lease)
    return lease.epoch


# Being reached


async def test_a_chroot_of_several_levels_is_made(
    settings: EnsembleSettings, store: SqliteStore
) -> None:
    deep = replace(settings, chroot=f"{settings.chroot}/a/b")
    async with ZooKeeperElector(deep, store, ME) as elector:
        await wins(elector)
    async with session_of(replace(settings, chroot="")) as session:
        assert "cluster" in await session.children(deep.chroot)


async def test_an_ensemble_that_comes_later_is_waited_for(
    server: ZooKeeperServer, store: SqliteStore, chroot: str
) -> None:
    server.kill()
    async with ZooKeeperElector(EnsembleSettings(server.hosts, chroot), store, ME) as elector:
        await refused(elector, "FF19150")
        assert server.hosts in elector.trouble
        assert "refused" in elector.trouble
        await asyncio.to_thread(server.start)
        await wins(elector)


async def test_the_second_host_serves_when_the_first_does_not(
    settings: EnsembleSettings, store: SqliteStore
) -> None:
    some = replace(settings, hosts=f"127.0.0.1:1,{settings.hosts}")
    async with ZooKeeperElector(some, store, ME) as elector:
        await wins(elector)


# Access


async def test_what_a_user_makes_is_for_that_user(
    settings: EnsembleSettings, store: SqliteStore
) -> None:
    mine = replace(settings, auth="photinus:secret")
    async with ZooKeeperElector(mine, store, ME) as elector:
        await wins(elector)
        async with session_of(settings) as stranger:
            for path in ("/cluster", "/replicas", "/roles"):
                with pytest.raises(Forbidden, match="FF19153"):
                    await stranger.children(path)
        for wrong in ("", "photinus:wrong", "other:secret"):
            async with ZooKeeperElector(replace(settings, auth=wrong), store, ME) as without:
                await refused(without, "FF19153")
                assert "secret" not in without.trouble
        await wins(elector)


# TLS


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SelfSigned]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: self_signed(folder, name) for name in ("server", "core", "stranger")}


@pytest.fixture(scope="module")
def tls_hosts(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, SelfSigned]
) -> Iterator[str]:
    """A server that takes nothing but TLS, from those whose certificate it knows."""
    lines = (
        "secureClientPort={port}",
        "secureClientPortAddress=127.0.0.1",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={keys['server'].both}",
        f"ssl.trustStore.location={keys['core'].certificate}",
        "ssl.clientAuth=need",
    )
    folder = tmp_path_factory.mktemp("tls")
    with ZooKeeperServer.started(folder, "\n".join(lines)) as server:
        yield f"127.0.0.1:{server.port}"


def tls_of(keys: dict[str, SelfSigned], trusts: str, shows: str | None) -> TlsSettings:
    shown = keys[shows] if shows else None
    return TlsSettings(
        keys[trusts].certificate,
        shown.certificate if shown else None,
        shown.key if shown else None,
    )


async def test_tls_with_certificates_on_both_sides(
    tls_hosts: str, keys: dict[str, SelfSigned], store: SqliteStore, chroot: str
) -> None:
    tls = tls_of(keys, "server", "core")
    known = EnsembleSettings(tls_hosts, chroot, tls=tls)
    async with ZooKeeperElector(known, store, ME) as elector:
        await wins(elector)


@pytest.mark.parametrize(
    ("trusts", "shows", "says"),
    [
        ("stranger", "core", "certificate verify failed"),
        ("server", "stranger", ""),
        ("server", None, ""),
    ],
)
async def test_tls_with_a_stranger_on_either_side_is_refused(
    tls_hosts: str,
    keys: dict[str, SelfSigned],
    store: SqliteStore,
    chroot: str,
    trusts: str,
    shows: str | None,
    says: str,
) -> None:
    tls = tls_of(keys, trusts, shows)
    async with ZooKeeperElector(EnsembleSettings(tls_hosts, chroot, tls=tls), store, ME) as elector:
        await refused(elector, "FF19150")
        assert says in elector.trouble


async def test_plain_text_to_a_tls_port_is_refused(
    tls_hosts: str, store: SqliteStore, chroot: str
) -> None:
    async with ZooKeeperElector(EnsembleSettings(tls_hosts, chroot), store, ME) as elector:
        await refused(elector, "FF19150")


# Session timeouts


@pytest.mark.parametrize("session_s", [0.9, 61.0])
def test_a_session_that_does_not_fit_is_refused_at_once(
    store: SqliteStore, session_s: float
) -> None:
    settings = EnsembleSettings("127.0.0.1:1", session_timeout_s=session_s)
    with pytest.raises(Rejected, match=f"FF19155: A ZooKeeper session of {session_s:g} s"):
        ZooKeeperElector(settings, store, ME)


async def test_a_session_the_server_changed_is_said_and_used(
    settings: EnsembleSettings, store: SqliteStore
) -> None:
    long = replace(settings, session_timeout_s=SESSION_MAX_S * 2)
    async with ZooKeeperElector(long, store, ME) as elector:
        await wins(elector)
        (problem,) = (await elector.members()).problems
        assert problem.startswith(f"FF19156: ZooKeeper gives sessions of {SESSION_MAX_S:g} s")


async def test_a_session_the_server_changed_too_much_is_refused(
    settings: EnsembleSettings, store: SqliteStore
) -> None:
    rules = ElectionRules(session_min_s=SESSION_MIN_S / 4, session_max_s=SESSION_MIN_S / 2)
    short = replace(settings, session_timeout_s=SESSION_MIN_S / 2)
    async with ZooKeeperElector(short, store, ME, rules) as elector:
        await refused(elector, "FF19155")


# Who belongs together


async def test_two_clusters_in_one_chroot_are_told_apart(
    settings: EnsembleSettings, store: SqliteStore, tmp_path: Path
) -> None:
    other = await SqliteStore.open(tmp_path / "other.db")
    async with ZooKeeperElector(settings, store, ME) as first:
        await wins(first)
        async with ZooKeeperElector(settings, other, ME) as second:
            await refused(second, "FF19151")
            for cluster in (store.cluster_id, other.cluster_id):
                assert cluster in second.trouble
        await wins(first)
    await other.aclose()


async def test_a_rebuilt_ensemble_is_refused_until_an_operator_says_so(
    settings: EnsembleSettings, store: SqliteStore
) -> None:
    async with ZooKeeperElector(settings, store, ME) as elector:
        await wins(elector)
        before = await wins(elector)
    empty = replace(settings, chroot=f"{settings.chroot}-rebuilt")
    async with ZooKeeperElector(empty, store, ME) as elector:
        await refused(elector, "FF19152")
        assert empty.chroot in elector.trouble
        async with session_of(empty) as session:
            await rebind(session, store)
            await rebind(session, store)
        assert await wins(elector) > before
    async with ZooKeeperElector(settings, store, ME) as elector:
        await refused(elector, "FF19152")


async def test_rebinding_takes_no_other_clusters_chroot(
    settings: EnsembleSettings, store: SqliteStore, tmp_path: Path
) -> None:
    async with ZooKeeperElector(settings, store, ME) as elector:
        await wins(elector)
    other = await SqliteStore.open(tmp_path / "other.db")
    async with session_of(settings) as session:
        with pytest.raises(Rejected, match="FF19151"):
            await rebind(session, other)
    await other.aclose()


async def test_epochs_go_on_from_a_local_elector(
    settings: EnsembleSettings, store: SqliteStore
) -> None:
    local = LocalElector(store)
    await store.raise_epoch(ROLE, Epoch(10**12))
    before = (await local.campaign(ROLE)).epoch
    await local.aclose()
    async with ZooKeeperElector(settings, store, ME) as elector:
        first = await wins(elector)
        assert first > before
        assert await wins(elector) > first


async def test_an_epoch_the_database_refuses_is_followed_by_one_it_takes(
    settings: EnsembleSettings, store: SqliteStore
) -> None:
    async with ZooKeeperElector(settings, store, ME) as elector:
        await wins(elector)
        # As after a restore of the ensemble from an older copy: its numbers are behind.
        await store.raise_epoch(ROLE, Epoch(10**12))
        assert await wins(elector) > 10**12
        assert elector.trouble == ""


# What an operator should see


async def test_different_configurations_and_names_taken_twice_are_shown(
    replica: MakeElector, caplog: pytest.LogCaptureFixture, stack: AsyncExitStack
) -> None:
    first = await replica("a")
    await replica("b", fingerprint="other")
    async with asyncio.timeout(10):
        while not (await _problems(first)):
            await asyncio.sleep(0.02)
    assert await _problems(first) == [
        "FF19157: Replicas 'a' and 'b' have different configurations; start both with the same"
    ]
    await first.redescribe("other")
    async with asyncio.timeout(10):
        while await _problems(first):
            await asyncio.sleep(0.02)
    await first.redescribe("f")
    await replica("a", address="elsewhere:5000")
    async with asyncio.timeout(10):
        while len(await _problems(first)) < 2:
            await asyncio.sleep(0.02)
    assert any(p.startswith("FF19158: Two replicas are called 'a'") for p in await _problems(first))
    await until(lambda: "FF19157" in caplog.text and "FF19158" in caplog.text)


async def _problems(elector: ZooKeeperElector) -> list[str]:
    try:
        return list((await elector.members()).problems)
    except Unavailable:
        return []


async def test_an_answer_that_nobody_foresaw_has_a_code_too(
    settings: EnsembleSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says that it cannot read a request."""

    class Refused:
        value = None
        exception = MarshallingError()

        def rawlink(self, tell: Callable[[object], None]) -> None:
            tell(self)

    async with session_of(settings) as session:
        monkeypatch.setattr(session._client, "sync_async", lambda *_: Refused())
        with pytest.raises(Unavailable, match="FF19154"):
            await session.confirm()
