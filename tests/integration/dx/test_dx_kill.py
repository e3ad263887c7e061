"""Goal: a data exchange that is killed at any moment loses nothing and delivers nothing twice.

Method: `photinus-dx` processes ended by SIGKILL at each stage of a message's way, and at random moments of a busy time;
a core that keeps what it stored, sends again under the same key when a call broke, and takes every event as the
protocol allows: at least once, known by its id.
"""

import asyncio
import json
import os
import random
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import grpc
from photinus.connector.v1 import common_pb2 as common

from tests.integration.dx.harness import text_of, until, wrapper
from tests.integration.dx.process import MIB, Member, members

SUCCEEDED = common.OPERATION_STATE_SUCCEEDED
CHAOS_MESSAGES = 240
CHAOS_KILLS = 8
IN_FLIGHT = 20


def delivered(receiver: Member) -> list[str]:
    return [text_of(message) for message in receiver.messages()]


def all_succeeded(sender: Member) -> bool:
    return {update.state for update in sender.updates.values()} == {SUCCEEDED}


async def test_what_is_in_the_outbox_survives(tmp_path: Path) -> None:
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        await bob.kill()
        for number in range(20):
            answer = await alice.send(bob, wrapper(str(number)), f"default:{number}")
            assert answer.state == common.OPERATION_STATE_PENDING
        await alice.kill()
        await bob.start()
        await alice.start()
        await alice.ended(20)
        assert delivered(bob) == [str(number) for number in range(20)]
        assert all_succeeded(alice)
        manifests = {update.manifest for update in alice.updates.values()}
        assert manifests == {f"manifest of {event_id}" for event_id in bob.seen}


async def test_what_was_accepted_survives_until_the_core_has_it(tmp_path: Path) -> None:
    """After the 204 and before the ack."""
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        bob.acking = False
        for number in range(5):
            await alice.send(bob, wrapper(str(number)), f"default:{number}")
        await until(lambda: len(bob.seen) == 5)
        first = list(bob.seen)
        await bob.kill()
        bob.acking = True
        await bob.start()
        await alice.ended(5)
        assert list(bob.seen) == first  # the same events by the same ids
        assert bob.again >= 5
        assert all_succeeded(alice)


async def test_what_is_acked_does_not_come_again_and_its_receipt_is_not_lost(
    tmp_path: Path,
) -> None:
    """After the ack and before the receipt reached the sender."""
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        bob.acking = False
        await alice.send(bob, wrapper("x"), "default:x")
        await until(lambda: len(bob.seen) == 1)
        await alice.kill()
        await bob.kill()
        bob.acking = True
        await bob.start()
        await until(lambda: inbox_rows(tmp_path / "bob" / "i1") == 0)
        await bob.kill()
        await bob.start()
        await alice.start()
        await alice.ended(1)
        assert alice.updates["default:x"].manifest == f"manifest of {next(iter(bob.seen))}"
        assert len(bob.seen) == 1


def inbox_rows(folder: Path) -> int:
    """Looked up in the journal of the running process; WAL lets a reader in."""
    with closing(sqlite3.connect(f"file:{folder}/journal.sqlite?mode=ro", uri=True)) as db:
        (count,) = db.execute("SELECT count(*) FROM dx_inbox").fetchone()
    return int(count)


async def test_both_killed_at_random_moments(tmp_path: Path) -> None:
    seed = int(os.environ.get("PHOTINUS_SEED", random.randrange(2**32)))
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        alive = asyncio.Event()
        alive.set()

        async def send_all() -> None:
            for number in range(CHAOS_MESSAGES):
                message = wrapper(str(number), padding=chance.randrange(4000))
                await until(lambda ahead=number - IN_FLIGHT: len(bob.seen) > ahead, 60)  # type: ignore[misc] # bound now
                while True:
                    await alive.wait()
                    try:
                        await alice.send(bob, message, f"default:{number}")
                        break
                    except (grpc.aio.AioRpcError, ConnectionError):
                        await asyncio.sleep(0)  # the same key again, as soon as there is a process

        async def kill_some() -> None:
            for _ in range(CHAOS_KILLS):
                goal = len(bob.seen) + chance.randrange(1, 2 * CHAOS_MESSAGES // CHAOS_KILLS)
                await until(lambda goal=goal: len(bob.seen) >= min(goal, CHAOS_MESSAGES))  # type: ignore[misc] # bound now
                victim = chance.choice([alice, bob])
                if victim is alice:
                    alive.clear()
                await victim.kill()
                await victim.start()
                alive.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send_all())
            tasks.create_task(kill_some())
        await alice.ended(CHAOS_MESSAGES)
        assert delivered(bob) == [str(number) for number in range(CHAOS_MESSAGES)]
        assert all_succeeded(alice)
        assert not alice.repeated_ends


async def test_a_blob_survives_the_death_of_either_end(tmp_path: Path) -> None:
    content = random.Random(6).randbytes(40 * MIB)
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        partial = tmp_path / "bob" / "i1" / "partial"
        data_id = str(uuid.uuid4())
        blob = await alice.upload(content, data_id, "default:up")

        def arriving() -> bool:
            return any(path.stat().st_size > 2 * MIB for path in partial.iterdir())

        await alice.send_blob(bob, blob.payload_ref, data_id, "default:blob")
        await until(lambda: arriving() or bool(bob.blobs()))
        await bob.kill()
        await bob.start()
        await until(lambda: arriving() or bool(bob.blobs()))
        await alice.kill()
        await alice.start()
        await alice.send(bob, wrapper("after it"), "default:after")
        await alice.ended(2)
        (got,) = bob.blobs()
        assert (got.hash, got.size) == (blob.hash, len(content))
        assert await bob.download(got.payload_ref) == content
        assert [event.WhichOneof("body") for event in bob.seen.values()] == [
            "blob_received",
            "message_received",
        ]
        assert alice.updates["default:blob"].hash == blob.hash
        assert not list(partial.iterdir())


async def test_an_upload_broken_by_death_leaves_nothing(tmp_path: Path) -> None:
    async with members(tmp_path, "alice") as (alice,):
        folder = tmp_path / "alice" / "i1"

        async def uploading() -> None:
            try:
                await alice.upload(bytes(200 * MIB), str(uuid.uuid4()), "default:up")
            except grpc.aio.AioRpcError:
                return

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(uploading())
            await until(
                lambda: any(path.stat().st_size > MIB for path in (folder / "partial").iterdir())
            )
            await alice.kill()
        assert list((folder / "partial").iterdir())
        await alice.start()
        assert not list((folder / "partial").iterdir())
        assert not [path for path in (folder / "blobs").rglob("*") if path.is_file()]


async def test_a_key_is_remembered_over_death(tmp_path: Path) -> None:
    async with members(tmp_path, "alice", "bob") as (alice, bob):
        message = wrapper("once")
        await alice.send(bob, message, "default:k")
        await alice.ended(1)
        await alice.kill()
        await alice.start()
        again = await alice.send(bob, message, "default:k")
        assert (again.replayed, again.state) == (True, SUCCEEDED)
        await alice.send(bob, wrapper("next"), "default:n")
        await alice.ended(2)
        assert delivered(bob) == ["once", "next"]
        assert json.loads(bob.document)["id"] == bob.id
