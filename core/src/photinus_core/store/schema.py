"""Migrations: numbered SQL files, applied in order, forward only, each fixed by a checksum.

This module reads them and decides what a database needs; adapters run them under their lock.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from photinus_core.model.errors import InternalBug, Unavailable

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

VERSION_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations ("
    "version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, "
    "applied BIGINT NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    version: int
    name: str
    text: str
    checksum: str

    def statements(self, dialect: Mapping[str, str]) -> list[str]:
        """Splits the file into statements, its `$WORDS$` replaced for one database."""
        text = re.sub(r"^--.*$", "", self.text, flags=re.MULTILINE)
        for word, replacement in dialect.items():
            text = text.replace(word, replacement)
        return [part.strip() for part in text.split(";") if part.strip()]


@cache
def load_migrations() -> tuple[Migration, ...]:
    """Reads the packaged migrations, in order.

    Raises:
        InternalBug: a file is misnamed, or a number is missing or there twice.
    """
    found: list[Migration] = []
    for entry in resources.files(__package__).joinpath("migrations").iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE.fullmatch(entry.name)
        if match is None:
            raise InternalBug("FF19000", f"migration {entry.name} is misnamed")
        text = entry.read_text("utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(int(match[1]), match[2], text, checksum))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise InternalBug("FF19000", "migrations are not numbered 1, 2, 3, …")
    return tuple(found)


def pending_migrations(
    applied: Sequence[tuple[int, str]], known: Sequence[Migration]
) -> list[Migration]:
    """Says which migrations a database still needs.

    Args:
        applied: Version and checksum of those it has.
        known: Those of this program.

    Raises:
        Unavailable: FF19104, the database is newer than this program; FF19105, a migration is not
            the one that was applied.
    """
    by_version = {migration.version: migration for migration in known}
    newest = max((version for version, _ in applied), default=0)
    if newest > len(known):
        raise Unavailable("FF19104", newest, len(known))
    for version, checksum in applied:
        if by_version[version].checksum != checksum:
            raise Unavailable("FF19105", version)
    done = {version for version, _ in applied}
    return [migration for migration in known if migration.version not in done]
