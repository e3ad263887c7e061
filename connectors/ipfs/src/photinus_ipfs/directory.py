"""The embedded storage: files in a directory, named by the identifiers Kubo would give them.

    objects/<last two chars>/<cid>        the bytes of a file
    objects/<last two chars>/<cid>.dag    the interior nodes of its tree, when it has more than one chunk
    pins/<cid>/<owner>                    an empty file: `owner` wants it kept
    tmp/                                  files being written, each locked by its writer

Several processes, one per member of a machine, may use one directory at the same time: equal content has equal names
and files appear whole, by a rename after a sync. Nothing is deleted but what a dead writer left in tmp: unpinned files
stay until an operator removes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, TypeVar

from photinus_sdk import Corrupted, NotFound, Rejected

from photinus_ipfs.cid import DAG_PB, IDENTITY, Cid, read_varint, varint
from photinus_ipfs.unixfs import CHUNK_BYTES, DagBuilder, leaf_block

R = TypeVar("R")

IO_THREADS = 4
BUFFER_BYTES = 4 * CHUNK_BYTES
DAG_BYTES_MAX = 64 * 1024 * 1024


class DirectoryStorage:
    """Storage in a directory.

    Args:
        folder: the directory; made when missing.
        owner: whose pins these are; one name per member.
        max_bytes: largest file taken.
    """

    def __init__(self, folder: Path, owner: str, *, max_bytes: int) -> None:
        self._objects, self._pins, self._tmp = folder / "objects", folder / "pins", folder / "tmp"
        self._owner = owner
        self._max_bytes = max_bytes
        self._pool = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="ipfs-directory")

    async def open(self) -> None:
        """Make the folders; sweep what dead writers left. Raises OSError."""
        await self._run(self._prepare)

    async def check(self) -> str:
        """Why the directory cannot be used now; empty when it can."""
        try:
            await self._run(self._prepare)
        except OSError as error:
            return f"the directory cannot be used: {error}"
        return ""

    async def add(self, chunks: AsyncIterator[bytes]) -> tuple[Cid, int]:
        """Store a file durably and pin it; gives identifier and size.

        Raises:
            Rejected: PAYLOAD_TOO_LARGE.
        """
        nodes: list[bytes] = []
        builder = DagBuilder(nodes.append)
        file = await self._run(_new_file, self._tmp)
        try:
            buffer: list[bytes] = []
            buffered = 0
            async for chunk in chunks:
                buffer.append(chunk)
                buffered += len(chunk)
                if builder.size + buffered > self._max_bytes:
                    raise Rejected(
                        f"A file may have {self._max_bytes} bytes", reason="PAYLOAD_TOO_LARGE"
                    )
                if buffered >= BUFFER_BYTES:
                    await self._run(_append, file, builder, buffer)
                    buffer, buffered = [], 0
            await self._run(_append, file, builder, buffer)
            root = await self._run(self._keep, file, builder, nodes)
            return root, builder.size
        finally:
            # Bounded work on the disk; a cancelled upload must not leave its file behind.
            await asyncio.shield(self._run(_drop, file))

    def reader(self, root: Cid) -> _DirectoryReader:
        """Access to the blocks of one file."""
        return _DirectoryReader(self._path(root), self._run)

    async def pin(self, root: Cid) -> bool:
        """Keep a file; False when this owner kept it before.

        Raises:
            NotFound: UNKNOWN_PAYLOAD.
        """

        def work() -> bool:
            if not self._path(root).exists() and root.hash_kind != IDENTITY:
                raise NotFound(f"{root} is not in the directory", reason="UNKNOWN_PAYLOAD")
            return self._mark(root)

        return await self._run(work)

    async def unpin(self, root: Cid) -> bool:
        """Keep it no longer for this owner; False when it did not."""

        def work() -> bool:
            try:
                (self._pins / _name(root) / self._owner).unlink()
            except FileNotFoundError:
                return False
            _sync_folder(self._pins / _name(root))
            return True

        return await self._run(work)

    async def aclose(self) -> None:
        """Wait for the disk."""
        await asyncio.to_thread(self._pool.shutdown)

    def _prepare(self) -> None:
        for folder in (self._objects, self._pins, self._tmp):
            folder.mkdir(parents=True, exist_ok=True)
        for path in self._tmp.iterdir():
            with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()

    def _keep(self, file: BinaryIO, builder: DagBuilder, nodes: list[bytes]) -> Cid:
        root = builder.finish()
        target = self._path(root)
        self._mark(root)
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            _sync_folder(self._objects)
            if nodes:
                self._keep_nodes(target, nodes)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).rename(target)
            _sync_folder(target.parent)
        return root

    def _keep_nodes(self, target: Path, nodes: list[bytes]) -> None:
        dag = _new_file(self._tmp)
        try:
            for node in nodes:
                dag.write(varint(len(node)) + node)
            dag.flush()
            os.fsync(dag.fileno())
            # Before the file itself: a file that is there is complete.
            Path(dag.name).rename(target.with_suffix(".dag"))
        finally:
            _drop(dag)

    def _mark(self, root: Cid) -> bool:
        marks = self._pins / _name(root)
        marks.mkdir(exist_ok=True)
        try:
            (marks / self._owner).touch(exist_ok=False)
        except FileExistsError:
            return False
        _sync_folder(marks)
        _sync_folder(self._pins)
        return True

    def _path(self, root: Cid) -> Path:
        name = _name(root)
        return self._objects / name[-2:] / name

    async def _run(self, function: Callable[..., R], *arguments: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


class _DirectoryReader:
    """Gives the blocks of one stored file: interior nodes from their file, leaves from the bytes."""

    def __init__(self, path: Path, run: Callable[..., Awaitable[bytes]]) -> None:
        self._path = path
        self._run = run
        self._file: BinaryIO | None = None
        self._nodes: dict[bytes, bytes] = {}

    async def get(self, cid: Cid, offset: int, size: int | None) -> bytes:
        if cid.hash_kind == IDENTITY:
            return cid.digest
        return await self._run(self._get, cid, offset, size)

    async def aclose(self) -> None:
        if self._file is not None:
            self._file.close()

    def _get(self, cid: Cid, offset: int, size: int | None) -> bytes:
        if self._file is None:
            self._open(cid)
        assert self._file is not None
        node = self._nodes.get(cid.digest)
        if node is not None:
            return node
        if size is None:
            size = os.fstat(self._file.fileno()).st_size
        if size > CHUNK_BYTES or cid.codec != DAG_PB:
            raise Corrupted(f"A part of {self._path.name} is damaged or missing: {cid}")
        self._file.seek(offset)
        return leaf_block(self._file.read(size))

    def _open(self, cid: Cid) -> None:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"{cid} is not in the directory", reason="UNKNOWN_PAYLOAD") from error
        dag_path = self._path.with_suffix(".dag")
        with contextlib.suppress(FileNotFoundError), dag_path.open("rb") as dag:
            self._nodes = _by_digest(dag.read(DAG_BYTES_MAX))


def _by_digest(encoded: bytes) -> dict[bytes, bytes]:
    """Interior nodes by their own hash, so that a damaged one is simply not found."""
    nodes: dict[bytes, bytes] = {}
    place = 0
    with contextlib.suppress(ValueError):
        while place < len(encoded):
            size, place = read_varint(encoded, place)
            node = encoded[place : place + size]
            nodes[hashlib.sha256(node).digest()] = node
            place += size
    return nodes


def _name(root: Cid) -> str:
    # Version 0 and 1 name the same dag-pb block.
    return str(Cid.v0(root.digest) if root.codec == DAG_PB and root.hash_kind else root)


def _new_file(folder: Path) -> BinaryIO:
    """A file in tmp, locked so that no other process sweeps it."""
    while True:
        file = (folder / secrets.token_hex(16)).open("xb")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:
                return file
        # A sweep came between opening and locking.
        file.close()


def _append(file: BinaryIO, builder: DagBuilder, buffer: list[bytes]) -> None:
    for chunk in buffer:
        file.write(chunk)
        builder.add(chunk)


def _drop(file: BinaryIO) -> None:
    Path(file.name).unlink(missing_ok=True)
    file.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
