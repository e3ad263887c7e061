"""Goal: whatever step the process dies at, each key becomes exactly one transaction.

Method: an engine submits a burst to an in-memory node. At the n-th passage of a crash point (before or after a
commit of the journal, before or after the node sees a call) everything stops as with kill -9: nothing further
reaches file or node. A new engine starts on what the file holds, keys without an answer are asked for and sent
again as the core would, blocks are mined, and the chain is counted. Every n is tried until none is left to
crash at.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from photinus_ethereum.rpc import NodeUnavailableError, Outcome
from photinus_ethereum.transactions import parse
from photinus_journal import SqliteWriter

from tests.support.evm_engine import STREAM, Rig, rig, until
from tests.support.evm_node import EvmNode

KEYS = tuple(f"ns1:{n}" for n in range(6))
POINTS = ("before commit", "after commit", "before call", "after call")
STEPS_MAX = 400


class Crash:
    """Counts passages of one kind of point; at the chosen one the process is dead for good."""

    def __init__(self, point: str, at: int) -> None:
        self.point, self.at = point, at
        self.passed = 0
        self.dead = False

    def passing(self, point: str) -> bool:
        """Whether the process is dead here."""
        if not self.dead and point == self.point:
            self.passed += 1
            self.dead = self.passed == self.at
        return self.dead


class DyingNode(EvmNode):
    """The node itself goes on; what dies is the process that speaks to it."""

    crash: Crash | None = None

    def _one(self, method: str, params: Sequence[Any]) -> Outcome:
        if self.crash is None:
            return super()._one(method, params)
        if self.crash.passing("before call"):
            return NodeUnavailableError("dead", sent=False)
        answer = super()._one(method, params)
        return (
            NodeUnavailableError("dead", sent=True) if self.crash.passing("after call") else answer
        )


def dying_commits(
    crash: Crash, path: Path, frozen: Path
) -> Callable[[SqliteWriter, list[Any]], None]:
    """Replaces the writer's commit: at the crash the file is kept as it is on disk then, and no later."""
    original = SqliteWriter._commit

    def commit(writer: SqliteWriter, jobs: list[Any]) -> None:
        if crash.passing("before commit"):
            snapshot(path, frozen)
            return
        original(writer, jobs)
        if crash.passing("after commit"):
            snapshot(path, frozen)

    return commit


def snapshot(path: Path, frozen: Path) -> None:
    """Copies the database as the next process will find it; the first copy counts."""
    if not frozen.exists():
        for suffix in ("-wal", ""):
            source = path.with_name(path.name + suffix)
            if source.exists():
                shutil.copy(source, frozen.with_name(frozen.name + suffix))


async def submit_all(rig_: Rig, node: EvmNode) -> None:
    """Two keys at a time, each pair mined before the next one is sent."""
    for at in range(0, len(KEYS), 2):
        async with asyncio.TaskGroup() as group:
            for key in KEYS[at : at + 2]:
                group.create_task(_submitted(rig_, key))
        await until(lambda count=at + 2: reached(node, count), "the pair at the node")  # type: ignore[misc]  # a default binds the loop's value
        node.mine()


def reached(node: EvmNode, count: int) -> bool:
    return len(node.pool) + len(node.on_chain()) >= count


async def _submitted(rig_: Rig, key: str) -> None:
    await until(lambda: rig_.engine.chain.available)
    await rig_.submit(key, key.encode())


@pytest.mark.parametrize("point", POINTS)
async def test_one_transaction_per_key_whatever_the_crash(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    for at in range(1, STEPS_MAX):
        folder = tmp_path / str(at)
        folder.mkdir()
        node = DyingNode()
        if not await _crashed_at(point, at, node, folder, monkeypatch):
            break
        steps += 1
        await _recovered(node, folder / "frozen.sqlite")
        sent = node.on_chain()
        data = [parse_data(each.raw) for each in sent]
        assert sorted(data) == sorted(key.encode() for key in KEYS), f"{point} {at}: {data}"
        assert [each.nonce for each in sent] == list(range(len(KEYS)))
    assert steps >= 4, f"only {steps} places to crash at {point}"


def parse_data(raw: bytes) -> bytes:
    return parse(raw).payload.data


async def _crashed_at(
    point: str, at: int, node: DyingNode, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Runs until the crash. False when all was done before the point was passed so often."""
    crash = Crash(point, at)
    path, frozen = folder / "journal.sqlite", folder / "frozen.sqlite"
    with monkeypatch.context() as patch:
        async with rig(node, path) as first:
            await until(lambda: first.engine.chain.available)
            patch.setattr(SqliteWriter, "_commit", dying_commits(crash, path, frozen))
            node.crash = crash
            work = asyncio.create_task(submit_all(first, node))
            await until(
                lambda: crash.dead or (work.done() and not first.engine.pool.size),
                f"crash at {point} {at}",
            )
            crashed = crash.dead
            crash.dead = True
            work.cancel()
            await asyncio.wait([work])
            snapshot(path, frozen)
    node.crash = None
    return crashed


async def _recovered(node: DyingNode, path: Path) -> None:
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    async with rig(node, path) as second:
        await submit_all(second, node)

        async def ended() -> bool:
            return len(await second.updates()) == len(KEYS)

        async with asyncio.timeout(10):
            while not await ended():
                await asyncio.sleep(0.005)
        # Asked once more, every key answers with the transaction that is on the chain.
        on_chain = {each.hash for each in node.on_chain()}
        for key in KEYS:
            operation = await second.journal.get(STREAM, key)
            assert operation is not None
            assert operation.external_id in on_chain
