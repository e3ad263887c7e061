"""Users and passwords of an htpasswd file (`htpasswd -B`), as FireFly's `basic` plugin takes it.

bcrypt is slow on purpose. It runs in threads of its own, a few checks at a time; what was found is
remembered by a digest with a key that only this process has.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import bcrypt

from photinus_core.access.credentials import Credential, Password
from photinus_core.access.files import WatchedFile
from photinus_core.access.refusals import unauthorized
from photinus_core.access.roles import Proof
from photinus_core.model.errors import Exhausted

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
COST_MIN: Final = 4
COST_MAX: Final = 16
"""bcrypt's work doubles with each; 16 takes some seconds."""
PASSWORD_BYTES_MAX: Final = 72
"""What bcrypt looks at. A longer password is refused rather than cut."""
CHECKS_AT_ONCE: Final = 2
CHECKS_WAITING_MAX: Final = 64
REMEMBERED_MAX: Final = 10_000

_LINE: Final = re.compile(
    r"(?P<user>[^:]{1,255}):(?P<hash>\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53})"
)
_NOBODYS: Final = "$2b$%02d$" + 53 * "."
"""A hash of no password: whether a user exists is not to be heard from the time of the answer."""


@dataclass(frozen=True, slots=True)
class WrongLine:
    """A line of a password file that cannot be used."""

    line: int
    text: str


def read_users(text: str) -> tuple[dict[str, str], list[WrongLine]]:
    """Reads an htpasswd file: hashes by user, and what is wrong with it."""
    users: dict[str, str] = {}
    wrong: list[WrongLine] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            wrong.append(WrongLine(number, "is not user:hash with a bcrypt hash (htpasswd -B)"))
        elif not COST_MIN <= int(found["cost"]) <= COST_MAX:
            wrong.append(WrongLine(number, f"has a cost that is not {COST_MIN} to {COST_MAX}"))
        elif found["user"] in users:
            wrong.append(WrongLine(number, "has a user that is there already"))
        else:
            users[found["user"]] = found["hash"]
    return users, wrong


class Passwords:
    """Checks passwords against a file.

    Args:
        name: Of the authenticator.
        file: The htpasswd file. While it is unreadable or wrong, its last good content counts.
    """

    scheme: Final = "Basic"

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self._file = WatchedFile(file, FILE_BYTES_MAX)
        self._users: dict[str, str] = {}
        self._secret = secrets.token_bytes(32)
        self._right = OrderedDict[bytes, bool]()
        self._wrong = OrderedDict[bytes, bool]()
        self._checks: dict[bytes, asyncio.Future[bool]] = {}
        self._threads = ThreadPoolExecutor(CHECKS_AT_ONCE, f"{name}-passwords")
        self.trouble = ""
        """Why the file as it is now does not count; empty when it does."""

    async def look(self) -> None:
        """Reads the file when it has changed."""
        try:
            text = await self._file.changed()
        except OSError as failure:
            self.trouble = f"{self._file.path}: {failure.strerror or failure}"
            return
        if text is None:
            return
        users, wrong = read_users(text)
        if wrong:
            self.trouble = f"{self._file.path}, line {wrong[0].line}: {wrong[0].text}"
            return
        self._users, self.trouble = users, ""

    async def prove(self, credential: Credential) -> Proof | None:
        """Gives the proof of a user with its password; None for what is no password.

        Raises:
            Unauthenticated: FF00169, unknown, or the password is wrong; which, is not told.
            Exhausted: FF19009, too many are being checked.
        """
        if not isinstance(credential, Password):
            return None
        known = self._users.get(credential.user)
        password = credential.password.encode()
        if len(password) > PASSWORD_BYTES_MAX or not await self._matches(
            credential.user, password, known
        ):
            raise unauthorized()
        return Proof(self.name, credential.user)

    async def aclose(self) -> None:
        """Ends its threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _matches(self, user: str, password: bytes, known: str | None) -> bool:
        hashed = known or _NOBODYS % self._usual_cost()
        # The hash is in the key: when the file changes, nothing that was remembered is found.
        key = hashlib.blake2b(
            b"\0".join((user.encode(), hashed.encode(), password)), key=self._secret
        ).digest()
        for remembered in (self._right, self._wrong):
            if key in remembered:
                remembered.move_to_end(key)
                return remembered[key]
        check = self._checks.get(key)
        if check is None:
            if len(self._checks) >= CHECKS_WAITING_MAX:
                raise Exhausted("FF19009", CHECKS_WAITING_MAX, "checks of passwords")
            check = self._begin(key, password, hashed)
        # It goes on, and is remembered, when this caller leaves: others wait for the same.
        return await asyncio.shield(check) and known is not None

    def _begin(self, key: bytes, password: bytes, hashed: str) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()
        check = loop.run_in_executor(self._threads, _check, password, hashed.encode())
        self._checks[key] = check

        def done(ended: asyncio.Future[bool]) -> None:
            del self._checks[key]
            if ended.cancelled() or ended.exception() is not None:
                return
            remembered = self._right if ended.result() else self._wrong
            remembered[key] = ended.result()
            if len(remembered) > REMEMBERED_MAX:
                remembered.popitem(last=False)

        check.add_done_callback(done)
        return check

    def _usual_cost(self) -> int:
        first = next(iter(self._users.values()), "")
        return int(first[4:6]) if first else 10


def _check(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # a NUL byte: no password that bcrypt could have made a hash of
        return False
