"""Password files: reading them, checking passwords, and what happens when they change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import bcrypt
import pytest
from photinus_core.access import passwords
from photinus_core.access.credentials import Password, Token
from photinus_core.access.passwords import Passwords, read_users
from photinus_core.access.roles import Proof
from photinus_core.model.errors import Exhausted, Unauthenticated

from tests.support.tokens import password_file

HASH = "$2y$04$" + "a" * 53


@pytest.mark.parametrize(
    ("text", "users", "wrong"),
    [
        ("", [], []),
        (f"alice:{HASH}\nbob:{HASH}\n", ["alice", "bob"], []),
        (f"# a note\n\nalice:{HASH}  \r\n", ["alice"], []),
        (f"alice:{HASH}\nalice:{HASH}\n", ["alice"], [2]),
        ("alice:secret\n", [], [1]),
        ("alice:$apr1$x$y\n", [], [1]),
        ("alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", [], [1]),
        (f"alice:{HASH.replace('$04$', '$31$')}\n", [], [1]),
        (f"alice:{HASH.replace('$04$', '$03$')}\n", [], [1]),
        (f":{HASH}\nalice\n", [], [1, 2]),
    ],
)
def test_files_are_read(text: str, users: list[str], wrong: list[int]) -> None:
    found, problems = read_users(text)
    assert list(found) == users
    assert [problem.line for problem in problems] == wrong


@pytest.fixture
async def users(tmp_path: Path) -> AsyncIterator[Passwords]:
    file = tmp_path / "users"
    file.write_text(password_file(alice="secret", bob="b"))
    made = Passwords("users", file)
    await made.look()
    assert made.trouble == ""
    yield made
    await made.aclose()


async def test_right_and_wrong_passwords(users: Passwords) -> None:
    for _ in range(2):  # the second time from memory
        assert await users.prove(Password("alice", "secret")) == Proof("users", "alice")
        for user, password in (
            ("alice", "b"),
            ("alice", ""),
            ("eve", "secret"),
            ("alice", "secret\0"),
            ("alice", "x" * 73),
        ):
            with pytest.raises(Unauthenticated, match=r"^FF00169: Unauthorized$"):
                await users.prove(Password(user, password))
    assert await users.prove(Token("t")) is None


async def test_a_password_longer_than_bcrypt_looks_at_is_refused(tmp_path: Path) -> None:
    """Cut at 72 bytes, every longer one that begins so would be right."""
    file = tmp_path / "users"
    file.write_text(password_file(alice="x" * 72))
    made = Passwords("users", file)
    await made.look()
    assert await made.prove(Password("alice", "x" * 72))
    with pytest.raises(Unauthenticated):
        await made.prove(Password("alice", "x" * 73))
    await made.aclose()


async def test_a_changed_file_counts_at_once(users: Passwords, tmp_path: Path) -> None:
    file = tmp_path / "users"
    assert await users.prove(Password("alice", "secret"))
    file.write_text(password_file(alice="another", carol="c"))
    await users.look()
    assert await users.prove(Password("alice", "another"))
    assert await users.prove(Password("carol", "c"))
    for former in (Password("alice", "secret"), Password("bob", "b")):
        with pytest.raises(Unauthenticated):
            await users.prove(former)


@pytest.mark.parametrize("damage", ["alice:plain\n", None])
async def test_a_damaged_file_leaves_the_former_in_force(
    users: Passwords, tmp_path: Path, damage: str | None
) -> None:
    file = tmp_path / "users"
    good = file.read_text()
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage)
    await users.look()
    assert str(file) in users.trouble
    assert "plain" not in users.trouble
    assert await users.prove(Password("bob", "b"))
    file.write_text(good)
    await users.look()
    assert users.trouble == ""


async def test_a_user_that_is_not_there_costs_as_much(
    users: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of the answer must not tell who has an account: bcrypt runs, with the file's cost."""
    seen: list[bytes] = []

    def check(password: bytes, hashed: bytes) -> bool:
        seen.append(hashed)
        return bcrypt.checkpw(password, hashed)

    monkeypatch.setattr(passwords, "_check", check)
    for user in ("alice", "eve"):
        with pytest.raises(Unauthenticated):
            await users.prove(Password(user, "nope"))
    assert [hashed[:7] for hashed in seen] == [b"$2b$04$", b"$2b$04$"]


async def test_one_password_is_checked_once_however_many_ask(
    users: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def check(password: bytes, hashed: bytes) -> bool:
        seen.append(password)
        return bcrypt.checkpw(password, hashed)

    monkeypatch.setattr(passwords, "_check", check)
    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(users.prove(Password("alice", "secret")))
    assert seen == [b"secret"]


async def test_one_who_leaves_does_not_spoil_it_for_others(users: Passwords) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(users.prove(Password("alice", "secret")))
        second = group.create_task(users.prove(Password("alice", "secret")))
        await asyncio.sleep(0)
        first.cancel()
    assert second.result() == Proof("users", "alice")


async def test_only_so_many_wait(users: Passwords) -> None:
    tries = passwords.CHECKS_WAITING_MAX + 1
    refused = []

    async def guess(number: int) -> None:
        try:
            await users.prove(Password("alice", f"guess {number}"))
        except (Exhausted, Unauthenticated) as failure:
            refused.append(failure.code)

    async with asyncio.TaskGroup() as group:
        for number in range(tries):
            group.create_task(guess(number))
    assert sorted(refused) == ["FF00169"] * (tries - 1) + ["FF19009"]


async def test_what_is_remembered_is_bounded(
    users: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "REMEMBERED_MAX", 3)
    for number in range(6):
        with pytest.raises(Unauthenticated):
            await users.prove(Password("alice", f"guess {number}"))
    assert len(users._wrong) == 3
