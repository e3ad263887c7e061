"""Goal: the embedded storage keeps what it took, whole, for several processes at once, and notices damage.

Method: two storages of different owners on one folder; breaking uploads; flipping bytes; the lock of a live writer.
"""

import fcntl
import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from photinus_ipfs.cid import Cid
from photinus_ipfs.directory import DirectoryStorage
from photinus_ipfs.storage import read_file
from photinus_ipfs.unixfs import CHUNK_BYTES
from photinus_sdk import Corrupted, NotFound, Rejected

MAX_BYTES = 8 * CHUNK_BYTES
CONTENT = random.Random(7).randbytes(5 * CHUNK_BYTES + 123)


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def storage(folder: Path, owner: str = "one") -> DirectoryStorage:
    made = DirectoryStorage(folder, owner, max_bytes=MAX_BYTES)
    await made.open()
    return made


async def read(made: DirectoryStorage, root: Cid, offset: int = 0) -> bytes:
    chunks = read_file(made, root, offset=offset, max_bytes=0)
    return b"".join([chunk async for chunk in chunks])


def files(folder: Path) -> Iterable[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 5, CHUNK_BYTES, len(CONTENT)])
async def test_what_is_added_is_read(tmp_path: Path, size: int) -> None:
    made = await storage(tmp_path)
    root, stored = await made.add(pieces(CONTENT[:size]))
    assert stored == size
    assert await read(made, root) == CONTENT[:size]
    assert await read(made, root, size // 3) == CONTENT[size // 3 : size]
    await made.aclose()


async def test_both_versions_of_a_name_find_it(tmp_path: Path) -> None:
    made = await storage(tmp_path)
    root, _ = await made.add(pieces(b"hello"))
    newer = Cid(1, root.codec, root.hash_kind, root.digest)
    assert await read(made, newer) == b"hello"
    await made.aclose()


async def test_a_member_reads_what_another_added(tmp_path: Path) -> None:
    one, two = await storage(tmp_path, "one"), await storage(tmp_path, "two")
    root, _ = await one.add(pieces(CONTENT))
    assert await read(two, root) == CONTENT
    assert (await two.add(pieces(CONTENT)))[0] == root
    assert [path.name for path in files(tmp_path / "objects") if path.suffix != ".dag"] == [
        str(root)
    ]
    await one.aclose()
    await two.aclose()


async def test_pins_are_each_owners_own(tmp_path: Path) -> None:
    one, two = await storage(tmp_path, "one"), await storage(tmp_path, "two")
    root, _ = await one.add(pieces(b"hello"))
    assert not await one.pin(root)  # adding pinned it
    assert await two.pin(root)
    assert not await two.pin(root)
    assert await one.unpin(root)
    assert not await one.unpin(root)
    assert not await two.pin(root)
    assert await read(one, root) == b"hello"
    await one.aclose()
    await two.aclose()


async def test_the_unknown_is_not_found(tmp_path: Path) -> None:
    made = await storage(tmp_path)
    root = Cid.v0(bytes(32))
    with pytest.raises(NotFound) as refused:
        await read(made, root)
    assert refused.value.reason == "UNKNOWN_PAYLOAD"
    with pytest.raises(NotFound):
        await made.pin(root)
    assert not await made.unpin(root)
    await made.aclose()


class Broken(Exception):
    pass


async def test_a_broken_upload_leaves_nothing(tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield CONTENT
        raise Broken

    made = await storage(tmp_path)
    with pytest.raises(Broken):
        await made.add(breaking())
    assert not files(tmp_path)
    await made.aclose()


async def test_too_large_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    made = await storage(tmp_path)
    with pytest.raises(Rejected) as refused:
        await made.add(pieces(bytes(MAX_BYTES + 1)))
    assert refused.value.reason == "PAYLOAD_TOO_LARGE"
    assert not files(tmp_path)
    await made.aclose()


@pytest.mark.parametrize("place", [0, CHUNK_BYTES + 1, len(CONTENT) - 1])
async def test_damage_is_noticed_before_it_is_passed_on(tmp_path: Path, place: int) -> None:
    made = await storage(tmp_path)
    root, _ = await made.add(pieces(CONTENT))
    (path,) = [path for path in files(tmp_path / "objects") if path.name == str(root)]
    damaged = bytearray(CONTENT)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    seen = b""

    async def look() -> None:
        nonlocal seen
        async for chunk in read_file(made, root, offset=0, max_bytes=0):
            seen += chunk

    with pytest.raises(Corrupted):
        await look()
    assert seen == CONTENT[: len(seen)]
    assert len(seen) <= place
    await made.aclose()


@pytest.mark.parametrize("harm", ["truncate", "extend", "lose the tree", "spoil the tree"])
async def test_other_harm_is_noticed(tmp_path: Path, harm: str) -> None:
    made = await storage(tmp_path)
    root, _ = await made.add(pieces(CONTENT))
    (path,) = [path for path in files(tmp_path / "objects") if path.name == str(root)]
    tree = path.with_suffix(".dag")
    match harm:
        case "truncate":
            path.write_bytes(CONTENT[:-1])
        case "extend":
            path.write_bytes(CONTENT[: 2 * CHUNK_BYTES])
        case "lose the tree":
            tree.unlink()
        case _:
            whole = bytearray(tree.read_bytes())
            whole[len(whole) // 2] ^= 1
            tree.write_bytes(whole)
    with pytest.raises(Corrupted):
        await read(made, root)
    await made.aclose()


async def test_only_dead_writers_files_are_swept(tmp_path: Path) -> None:
    await (await storage(tmp_path)).aclose()
    dead, alive = tmp_path / "tmp" / "dead", tmp_path / "tmp" / "alive"
    dead.write_bytes(b"x")
    with alive.open("xb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        await (await storage(tmp_path)).aclose()
        assert not dead.exists()
        assert alive.exists()


async def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    made = await storage(tmp_path)
    assert not await made.check()
    (tmp_path / "tmp").rmdir()
    (tmp_path / "tmp").write_text("in the way")
    assert "cannot be used" in await made.check()
    await made.aclose()
