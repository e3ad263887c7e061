"""Goal: files get the names Kubo's defaults give, however their bytes arrive, and hostile nodes are refused.

Method: names recorded from Kubo and known ones as vectors; random cuts of one file; a reader over blocks in memory;
hand-made nodes that lie.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from photinus_ipfs.cid import RAW, SHA2_256, Cid, varint
from photinus_ipfs.storage import read_file
from photinus_ipfs.unixfs import CHUNK_BYTES, BadDag, DagBuilder, leaf_block, read_node
from photinus_sdk import Corrupted, Refused, Rejected

EMPTY = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"


def name_of(*pieces: bytes) -> str:
    builder = DagBuilder()
    for piece in pieces:
        builder.add(piece)
    return str(builder.finish())


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", EMPTY),
        (b"hello", "QmWfVY9y3xjsixTgbd9AorQxH7VtMpzfx2HaWtsoUYecaX"),
        (bytes(range(256)) * 1200, "QmTTa89T7ra72oFqidWXGHTHopuErB56LFReHKYXU745hc"),
        (b"not pinned", "QmYsrB37s9Zxy1SvJwcJPTw4qaA9v5iS51YQTVPnx9VbqD"),
    ],
    ids=["empty", "hello", "two chunks", "short"],
)
def test_names_are_those_of_kubo(content: bytes, name: str) -> None:
    assert name_of(content) == name


@given(st.lists(st.integers(min_value=0, max_value=700_000), max_size=6), st.integers(0, 2**32))
def test_the_cuts_do_not_matter(sizes: list[int], seed: int) -> None:
    pieces = [random.Random(seed).randbytes(size) for size in sizes]
    assert name_of(*pieces) == name_of(b"".join(pieces))


def blocks_of(content: bytes) -> tuple[Cid, dict[bytes, bytes]]:
    nodes: list[bytes] = []
    builder = DagBuilder(nodes.append)
    builder.add(content)
    root = builder.finish()
    leaves = [
        leaf_block(content[start : start + CHUNK_BYTES])
        for start in range(0, max(1, len(content)), CHUNK_BYTES)
    ]
    return root, {named(block).digest: block for block in (*nodes, *leaves)}


def named(block: bytes) -> Cid:
    return Cid.v0(hashlib.sha256(block).digest())


class Memory:
    """Blocks in memory, as a storage and its reader at once."""

    def __init__(self, blocks: dict[bytes, bytes]) -> None:
        self.blocks = blocks
        self.asked = 0

    async def check(self) -> str:
        return ""

    async def add(self, chunks: AsyncIterator[bytes]) -> tuple[Cid, int]:
        raise AssertionError("only read here")

    async def pin(self, root: Cid) -> bool:
        raise AssertionError("only read here")

    async def unpin(self, root: Cid) -> bool:
        raise AssertionError("only read here")

    def reader(self, _root: Cid) -> "Memory":
        return self

    async def get(self, cid: Cid, _offset: int, _size: int | None) -> bytes:
        self.asked += 1
        return self.blocks[cid.digest]

    async def aclose(self) -> None:
        pass


def read(memory: Memory, root: Cid, offset: int = 0, max_bytes: int = 0) -> bytes:
    async def collect() -> bytes:
        chunks = read_file(memory, root, offset=offset, max_bytes=max_bytes)
        return b"".join([chunk async for chunk in chunks])

    return asyncio.run(collect())


SIZES = (0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_built_is_read(size: int) -> None:
    content = random.Random(size).randbytes(size)
    root, blocks = blocks_of(content)
    for offset in {0, size // 2, max(0, size - 1), size}:
        assert read(Memory(blocks), root, offset) == content[offset:]


def test_an_offset_skips_blocks_unread() -> None:
    content = bytes(200 * CHUNK_BYTES)  # three levels
    content = content[:-8] + b"the end."
    root, blocks = blocks_of(content)
    memory = Memory(blocks)
    assert read(memory, root, len(content) - 4) == b"end."
    assert memory.asked == 3


def test_a_size_limit_is_kept_before_a_byte_is_read() -> None:
    root, blocks = blocks_of(bytes(2 * CHUNK_BYTES))
    memory = Memory(blocks)
    with pytest.raises(Refused, match="more than"):
        read(memory, root, max_bytes=2 * CHUNK_BYTES - 1)
    assert memory.asked == 1


def test_an_offset_behind_the_end_is_refused() -> None:
    root, blocks = blocks_of(b"hello")
    with pytest.raises(Rejected, match="behind the end"):
        read(Memory(blocks), root, 6)


def test_each_damaged_block_is_noticed() -> None:
    root, blocks = blocks_of(random.Random(1).randbytes(3 * CHUNK_BYTES))
    for digest, block in blocks.items():
        damaged = blocks | {digest: block[:-1] + bytes([block[-1] ^ 1])}
        with pytest.raises(Corrupted):
            read(Memory(damaged), root)


# Nodes that fit their hash and lie about what is below them.


def link(child: bytes) -> bytes:
    inner = b"\x0a\x22" + named(child).to_bytes() + b"\x12\x00\x18" + varint(len(child))
    return b"\x12" + varint(len(inner)) + inner


def content_of(kind: int, file_size: int, *sizes: int) -> bytes:
    body = b"\x08" + varint(kind) + b"\x18" + varint(file_size)
    body += b"".join(b"\x20" + varint(size) for size in sizes)
    return b"\x0a" + varint(len(body)) + body


LEAF = leaf_block(b"hello")


@pytest.mark.parametrize(
    "block",
    [
        link(LEAF) + content_of(2, 6, 6),  # the leaf has 5 bytes
        link(LEAF) + link(LEAF) + content_of(2, 11, 5, 6),
    ],
    ids=["child too short", "second child too short"],
)
def test_a_child_of_another_size_is_corruption(block: bytes) -> None:
    memory = Memory({named(block).digest: block, named(LEAF).digest: LEAF})
    with pytest.raises(Corrupted):
        read(memory, named(block))


@pytest.mark.parametrize(
    "block",
    [
        link(LEAF) + content_of(2, 7, 5),  # parts do not add up
        link(LEAF) + content_of(2, 5),  # no size for the child
        link(LEAF) + content_of(2, 0, 0),  # a child that never ends anything
        content_of(1, 0),  # a directory
        content_of(4, 0),  # a link
        b"\xff\xff\xff",
        b"\x12\x05\x0a\x02",  # breaks off
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ],
)
def test_a_root_that_is_no_file_is_refused(block: bytes) -> None:
    with pytest.raises(BadDag):
        read_node(named(block), block)
    with pytest.raises(Rejected, match="no file"):
        read(Memory({named(block).digest: block}), named(block))


def test_a_tree_without_end_is_given_up() -> None:
    """A chain of nodes with one child each adds no bytes, so only the depth bounds it."""
    blocks = {}
    block = LEAF
    for _ in range(40):
        blocks[named(block).digest] = block
        block = link(block) + content_of(2, 5, 5)
    blocks[named(block).digest] = block
    with pytest.raises(Corrupted, match="deeper"):
        read(Memory(blocks), named(block))


def test_raw_leaves_are_read() -> None:
    raw = Cid(1, RAW, SHA2_256, hashlib.sha256(b"hello").digest())
    assert read(Memory({raw.digest: b"hello"}), raw) == b"hello"
