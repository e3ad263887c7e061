"""Migrations: numbered SQL files, applied in order, forward only, each fixed by a checksum.

This module reads them and decides what a database needs; adapters run them under their lock.

Replicas are upgraded one after the other, so a program must run on the schema of the next release. A
migration whose file says `-- min code: n` leaves programs that know migration n running: it only adds
tables, indexes, and columns that are nullable or have a default, which is what the next release may
do. Without that line only programs that know the migration itself may use the database: such a one
needs all replicas stopped.
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
_MIN_CODE = re.compile(r"^-- min code: (\d+)$", re.MULTILINE)

VERSION_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS schema_migrations ("
    "version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, "
    "applied BIGINT NOT NULL, min_code BIGINT)"
)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema.

    Attributes:
        min_code: The newest migration a program must know to run on a database that has this one.
    """

    version: int
    name: str
    text: str
    checksum: str
    min_code: int

    def statements(self, dialect: Mapping[str, str]) -> list[str]:
        """Splits the file into statements, its `$WORDS$` replaced for one database.

        A statement that begins with `$ONLY_…$` is left out unless the dialect has the word.
        """
        text = re.sub(r"^--.*$", "", self.text, flags=re.MULTILINE)
        for word, replacement in dialect.items():
            text = text.replace(word, replacement)
        parts = [part.strip() for part in text.split(";")]
        return [part for part in parts if part and not part.startswith("$ONLY_")]


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
        version = int(match[1])
        oldest = _MIN_CODE.search(text)
        min_code = int(oldest[1]) if oldest else version
        found.append(Migration(version, match[2], text, checksum, min_code))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise InternalBug("FF19000", "migrations are not numbered 1, 2, 3, …")
    return tuple(found)


def pending_migrations(
    applied: Sequence[tuple[int, str, int | None]], known: Sequence[Migration]
) -> list[Migration]:
    """Says which migrations a database still needs.

    Args:
        applied: Version, checksum and `min_code` of those it has; None where a program before
            0.2 applied it.
        known: Those of this program.

    Raises:
        Unavailable: FF19104, the database is too new for this program; FF19105, a migration is not
            the one that was applied.
    """
    by_version = {migration.version: migration for migration in known}
    for version, checksum, min_code in applied:
        migration = by_version.get(version)
        if migration is None:
            if len(known) < (version if min_code is None else min_code):
                raise Unavailable("FF19104", version, len(known))
        elif migration.checksum != checksum:
            raise Unavailable("FF19105", version)
    done = {version for version, _, _ in applied}
    return [migration for migration in known if migration.version not in done]
