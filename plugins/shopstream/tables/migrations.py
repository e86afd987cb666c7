"""Spanner's schema, brought forward by the numbered migrations of sql/spanner.

A migration is a file NNNN_name.sql of DDL statements, each ended by a semicolon. What was applied is recorded
in the table schema_migrations of the same database. Spanner cannot change a schema and write a row in one
transaction, so a migration may run twice: when its run died before it was recorded, or when two runs meet.
Therefore each statement must bear repetition (IF NOT EXISTS, OR REPLACE, IF EXISTS), and one that does not is
refused before anything runs.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition
from google.api_core.retry import Retry
from google.cloud.spanner_v1 import COMMIT_TIMESTAMP, KeySet

from shopstream.retries import Refused

if TYPE_CHECKING:
    from google.cloud.spanner_v1.database import Database

DDL_TIMEOUT_SECONDS = 3600.0
"""An index over a large table takes long to fill."""
BUSY_TIMEOUT_SECONDS = 120.0

_CREATE_HISTORY = """
CREATE TABLE IF NOT EXISTS schema_migrations (
  version INT64 NOT NULL,
  name STRING(256) NOT NULL,
  checksum STRING(64) NOT NULL,
  applied_at TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (version)"""

_FILE_NAME = re.compile(r"(?P<version>\d{4})_[a-z0-9_]+\.sql")
_TOKEN = re.compile(
    r"""(?P<quoted>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`[^`\n]*`)"""
    r"""|(?P<comment>--[^\n]*|/\*.*?\*/)|(?P<end>;)""",
    re.DOTALL,
)
_REPEATABLE = re.compile(
    r"CREATE (TABLE|(UNIQUE |NULL_FILTERED )*INDEX) IF NOT EXISTS "
    r"|CREATE OR REPLACE VIEW "
    r"|DROP (TABLE|INDEX|VIEW) IF EXISTS "
    r"|ALTER TABLE \S+ (ADD COLUMN IF NOT EXISTS|ALTER COLUMN|SET) ",
    re.IGNORECASE,
)

log = logging.getLogger(__name__)


class MigrationError(Refused):
    """The files of sql/spanner and what the database has applied do not go together; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: `statements` are its DDL without comments, `checksum` is the SHA-256 of its text."""

    version: int
    name: str
    checksum: str
    statements: tuple[str, ...]


def apply_migrations(
    database: Database, folder: Path, before: Mapping[int, Callable[[], None]] | None = None
) -> list[str]:
    """Apply the migrations of the folder that the database lacks, in order, and return their file names.

    May run any number of times, also twice at once: each migration ends applied and recorded once.

    Args:
        database: the database.
        folder: the folder.
        before: by a migration's number, what must have happened before it is applied, such as rows that
            move. It must bear repetition too, and what it raises ends the run.

    Raises:
        MigrationError: a file is misnamed, missing, doubled, was edited after it was applied, or has a
            statement that does not bear repetition.
        google.api_core.exceptions.GoogleAPICallError: Spanner refused a statement. Those before it stay; run
            again after the fix.
    """
    migrations = read_migrations(folder)
    update_ddl(database, [_CREATE_HISTORY])
    recorded = _recorded(database)
    _refuse_drift(migrations, recorded, folder)
    applied = []
    for migration in migrations:
        if migration.version in recorded:
            continue
        if before and migration.version in before:
            before[migration.version]()
        log.info("Applying %s: %d statements.", migration.name, len(migration.statements))
        update_ddl(database, list(migration.statements))
        if _insert_if_missing(database, migration):
            applied.append(migration.name)
    # Another run may have recorded a migration of the same number, from another version of the files.
    _refuse_drift(migrations, _recorded(database), folder)
    return applied


def read_migrations(folder: Path) -> list[Migration]:
    """Read the migrations of a folder, in order; their numbers are 1, 2, 3 and so on.

    Raises:
        MigrationError: a file is misnamed, a number is missing or doubled, or a statement does not bear
            repetition.
    """
    migrations = [_read_migration(path) for path in sorted(Path(folder).glob("*.sql"))]
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise MigrationError(
                f"{Path(folder) / migration.name}: its number should be {expected:04d}; "
                "migrations are numbered from 0001 on, each number once, without gaps."
            )
    return migrations


def split_statements(text: str) -> list[str]:
    """Split SQL text at its semicolons, leaving out comments; neither is seen inside quotes."""
    statements, current, position = [], "", 0
    for token in _TOKEN.finditer(text):
        current += text[position : token.start()]
        position = token.end()
        if token["quoted"]:
            current += token[0]
        elif token["end"]:
            statements.append(current)
            current = ""
    statements.append(current + text[position:])
    return [statement.strip() for statement in statements if statement.strip()]


def _read_migration(path: Path) -> Migration:
    match = _FILE_NAME.fullmatch(path.name)
    if not match:
        raise MigrationError(f"{path}: name it NNNN_what_it_does.sql, such as 0003_add_refunds.sql.")
    text = path.read_text(encoding="utf-8")
    statements = split_statements(text)
    for statement in statements:
        if not _REPEATABLE.match(" ".join(statement.split())):
            raise MigrationError(
                f"{path}: this statement does not bear repetition: {statement.splitlines()[0]!r}. "
                "Use CREATE ... IF NOT EXISTS, CREATE OR REPLACE VIEW, ADD COLUMN IF NOT EXISTS or "
                "DROP ... IF EXISTS."
            )
    if not statements:
        raise MigrationError(f"{path}: has no statement.")
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return Migration(int(match["version"]), path.name, checksum, tuple(statements))


def _recorded(database: Database) -> dict[int, tuple[str, str]]:
    """Return the name and checksum of each applied migration, by version."""
    with database.snapshot() as snapshot:
        rows = snapshot.read("schema_migrations", ("version", "name", "checksum"), KeySet(all_=True))
        return {version: (name, checksum) for version, name, checksum in rows}


def _refuse_drift(migrations: list[Migration], recorded: dict[int, tuple[str, str]], folder: Path) -> None:
    known = {migration.version: migration for migration in migrations}
    for version, (name, checksum) in sorted(recorded.items()):
        migration = known.get(version)
        if migration is None:
            raise MigrationError(
                f"{name} is applied but not in {folder}. This version of the code is older than the "
                "database: deploy the newer one, or put the file back."
            )
        if (migration.name, migration.checksum) != (name, checksum):
            raise MigrationError(
                f"{Path(folder) / migration.name} is not what was applied: applied was {name} with checksum "
                f"{checksum}, the file has {migration.checksum}. Put the file back as it was, and write the "
                "change as a new migration."
            )


def _insert_if_missing(database: Database, migration: Migration) -> bool:
    """Record the migration; return whether this run was the one to record it."""
    row = (migration.version, migration.name, migration.checksum, COMMIT_TIMESTAMP)
    try:
        with database.batch() as batch:
            batch.insert("schema_migrations", ("version", "name", "checksum", "applied_at"), [row])
    except AlreadyExists:
        return False
    return True


def update_ddl(database: Database, statements: list[str]) -> None:
    """Change the schema; wait while another change or, on the emulator, a transaction is in the way."""
    retry = Retry(predicate=_is_busy, initial=0.2, maximum=5.0, timeout=BUSY_TIMEOUT_SECONDS)
    retry(lambda: database.update_ddl(statements).result(timeout=DDL_TIMEOUT_SECONDS))()


def _is_busy(error: Exception) -> bool:
    return isinstance(error, Aborted) or (
        isinstance(error, FailedPrecondition) and "concurrent" in str(error)
    )
