"""The port between the connector and what holds the bytes, and reading through it with every block checked.

Errors are the kit's: NotFound / UNKNOWN_PAYLOAD, Unavailable, Corrupted / HASH_MISMATCH, Refused / PAYLOAD_TOO_LARGE,
Rejected / INVALID_PAYLOAD_REF.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from photinus_sdk import Corrupted, Refused, Rejected

from photinus_ipfs.cid import BadCid, Cid
from photinus_ipfs.unixfs import BadDag, Link, Node, read_node

DAG_DEPTH_MAX = 12


class Storage(Protocol):
    """Content-addressed storage of files."""

    async def check(self) -> str:
        """Why the storage cannot be used now; empty when it can."""
        ...

    async def add(self, chunks: AsyncIterator[bytes]) -> tuple[Cid, int]:
        """Store a file durably and keep it; gives identifier and size. Nothing is kept when `chunks` fails."""
        ...

    def reader(self, root: Cid, /) -> BlockReader:
        """Access to the blocks of one file."""
        ...

    async def pin(self, root: Cid) -> bool:
        """Keep a file; False when it was kept before. Raises NotFound when the storage does not have it."""
        ...

    async def unpin(self, root: Cid) -> bool:
        """Keep it no longer; False when it was not kept."""
        ...

    async def aclose(self) -> None:
        """Give back connections and files."""
        ...


class BlockReader(Protocol):
    """Blocks of one file, unchecked: the caller checks each against its identifier."""

    async def get(self, cid: Cid, offset: int, size: int | None, /) -> bytes:
        """A block. `offset` and `size` say which bytes of the file are at and below it; size None for the root."""
        ...

    async def aclose(self) -> None:
        """Give back what reading took."""
        ...


def parse_reference(text: str) -> Cid:
    """Read a payload reference.

    Raises:
        Rejected: INVALID_PAYLOAD_REF.
    """
    try:
        return Cid.parse(text)
    except BadCid as error:
        raise Rejected(
            f"{text[:100]!r} is no IPFS content identifier: {error}", reason="INVALID_PAYLOAD_REF"
        ) from error


async def read_file(
    storage: Storage, root: Cid, *, offset: int, max_bytes: int
) -> AsyncIterator[bytes]:
    """The bytes of a file from `offset`. Each block is checked before any of it is yielded.

    Args:
        storage: where to read.
        root: the file.
        offset: first byte to yield.
        max_bytes: largest file to read; 0 for any.
    """
    blocks = storage.reader(root)
    try:
        top = await _checked(blocks, root, 0, None)
        if max_bytes and top.file_size > max_bytes:
            raise Refused(
                f"{root} has {top.file_size} bytes, more than {max_bytes}",
                reason="PAYLOAD_TOO_LARGE",
            )
        if offset > top.file_size:
            raise Rejected(
                f"Offset {offset} is behind the end of {root}, {top.file_size} bytes",
                reason="INVALID_OFFSET",
            )
        async for chunk in _walk(blocks, top, offset):
            yield chunk
    finally:
        await blocks.aclose()


async def _walk(blocks: BlockReader, top: Node, skip: int) -> AsyncIterator[bytes]:
    """Depth first, without recursion: a stack of what is still to read, the next on top."""
    place = 0
    stack: list[tuple[Node | Link, int]] = [(top, 0)]
    while stack:
        item, depth = stack.pop()
        if place + item.file_size <= skip:
            place += item.file_size
            continue
        if isinstance(item, Link):
            if depth > DAG_DEPTH_MAX:
                raise Corrupted("The file's tree is deeper than any writer makes it")
            node = await _checked(blocks, item.cid, place, item.file_size)
            stack.append((node, depth))
            continue
        if item.data:
            wanted = item.data[max(0, skip - place) :]
            place += len(item.data)
            if wanted:
                yield wanted
        stack += [(link, depth + 1) for link in reversed(item.links)]


async def _checked(blocks: BlockReader, cid: Cid, offset: int, size: int | None) -> Node:
    block = await blocks.get(cid, offset, size)
    if not cid.fits(block):
        raise Corrupted(f"What the storage gave for {cid} has another hash")
    try:
        node = read_node(cid, block)
    except BadDag as error:
        if size is None:
            raise Rejected(f"{cid} is no file: {error}", reason="INVALID_PAYLOAD_REF") from error
        raise Corrupted(f"{cid}: {error}") from error
    if size is not None and node.file_size != size:
        raise Corrupted(f"{cid} has {node.file_size} bytes, the node above says {size}")
    return node
