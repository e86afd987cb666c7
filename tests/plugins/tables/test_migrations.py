"""Spanner's schema follows sql/spanner, whatever happens on the way."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.api_core.exceptions import NotFound
from google.cloud.spanner_v1.database import Database
from google.cloud.spanner_v1.instance import Instance

from shopstream.settings import settings
from shopstream.tables.migrations import MigrationError, apply_migrations, read_migrations, split_statements

CARTS = "CREATE TABLE IF NOT EXISTS carts (id INT64) PRIMARY KEY (id);\n"
ADD_OWNER = "ALTER TABLE carts ADD COLUMN IF NOT EXISTS owner STRING(10);\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two migrations: the table carts, and then its column owner."""
    (tmp_path / "0001_carts.sql").write_text(CARTS)
    (tmp_path / "0002_add_owner.sql").write_text(ADD_OWNER)
    return tmp_path


@pytest.fixture
def empty_database(spanner_instance: Instance) -> Iterator[Database]:
    """A database without any table."""
    database = spanner_instance.database(f"test-{uuid.uuid4().hex[:12]}")
    database.create().result(timeout=30)
    yield database
    database.drop()


def query(database: Database, sql: str) -> list[list[object]]:
    with database.snapshot() as snapshot:
        return [list(row) for row in snapshot.execute_sql(sql)]


def columns(database: Database, table: str) -> list[object]:
    sql = f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}' ORDER BY 1"
    return [name for (name,) in query(database, sql)]


@pytest.mark.integration
def test_migrations_are_applied_in_order_and_recorded_with_their_checksums(
    empty_database: Database, folder: Path
) -> None:
    assert apply_migrations(empty_database, folder) == ["0001_carts.sql", "0002_add_owner.sql"]
    assert columns(empty_database, "carts") == ["id", "owner"]
    recorded = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
    assert query(empty_database, recorded) == [
        [1, "0001_carts.sql", hashlib.sha256(CARTS.encode()).hexdigest()],
        [2, "0002_add_owner.sql", hashlib.sha256(ADD_OWNER.encode()).hexdigest()],
    ]


@pytest.mark.integration
def test_a_second_run_applies_only_what_is_new(empty_database: Database, folder: Path) -> None:
    apply_migrations(empty_database, folder)
    assert apply_migrations(empty_database, folder) == []
    (folder / "0003_drop.sql").write_text("DROP TABLE IF EXISTS carts;")
    assert apply_migrations(empty_database, folder) == ["0003_drop.sql"]
    assert columns(empty_database, "carts") == []


@pytest.mark.integration
def test_a_run_that_died_between_the_change_and_its_recording_is_taken_up_again(
    empty_database: Database, folder: Path
) -> None:
    empty_database.update_ddl([CARTS.rstrip(";\n")]).result(timeout=30)
    assert apply_migrations(empty_database, folder) == ["0001_carts.sql", "0002_add_owner.sql"]


@pytest.mark.integration
def test_a_migration_that_spanner_refuses_is_not_recorded_and_is_applied_once_mended(
    empty_database: Database, folder: Path
) -> None:
    wrong = folder / "0003_wrong.sql"
    wrong.write_text("ALTER TABLE carte ADD COLUMN IF NOT EXISTS total NUMERIC;")
    with pytest.raises(NotFound, match="carte"):
        apply_migrations(empty_database, folder)
    wrong.write_text("ALTER TABLE carts ADD COLUMN IF NOT EXISTS total NUMERIC;")
    assert apply_migrations(empty_database, folder) == ["0003_wrong.sql"]
    assert columns(empty_database, "carts") == ["id", "owner", "total"]


@pytest.mark.integration
def test_two_runs_at_once_apply_each_migration_and_record_it_once(
    empty_database: Database, folder: Path
) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(apply_migrations, empty_database, folder) for _ in range(4)]
        applied = [name for run in runs for name in run.result(timeout=120)]
    assert sorted(applied) == ["0001_carts.sql", "0002_add_owner.sql"]
    assert columns(empty_database, "carts") == ["id", "owner"]
    assert query(empty_database, "SELECT COUNT(*) FROM schema_migrations") == [[2]]


@pytest.mark.integration
def test_an_applied_migration_that_was_edited_is_refused_by_name_and_both_checksums(
    empty_database: Database, folder: Path
) -> None:
    apply_migrations(empty_database, folder)
    edited = CARTS + "-- edited\n"
    (folder / "0001_carts.sql").write_text(edited)
    with pytest.raises(MigrationError, match=r"0001_carts\.sql is not what was applied") as refused:
        apply_migrations(empty_database, folder)
    assert hashlib.sha256(CARTS.encode()).hexdigest() in str(refused.value)
    assert hashlib.sha256(edited.encode()).hexdigest() in str(refused.value)


@pytest.mark.integration
def test_an_applied_migration_whose_file_is_gone_is_refused(empty_database: Database, folder: Path) -> None:
    apply_migrations(empty_database, folder)
    (folder / "0002_add_owner.sql").unlink()
    with pytest.raises(MigrationError, match=r"0002_add_owner\.sql is applied but not in"):
        apply_migrations(empty_database, folder)


@pytest.mark.integration
def test_the_migrations_of_this_repository_apply_to_an_empty_database(empty_database: Database) -> None:
    folder = settings().sql_dir / "spanner"
    applied = apply_migrations(empty_database, folder)
    assert applied == [path.name for path in sorted(folder.glob("*.sql"))]
    assert "load_id" in columns(empty_database, "loaded_events")
    assert columns(empty_database, "events") == []
    assert "event_id" in columns(empty_database, "customer_journey")
    assert apply_migrations(empty_database, folder) == []


@pytest.mark.parametrize("name", ["0004_gap.sql", "0002_again.sql"])
def test_a_gap_and_a_doubled_number_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_text(CARTS)
    with pytest.raises(MigrationError, match="its number should be 0003"):
        read_migrations(folder)


@pytest.mark.parametrize("name", ["3_short.sql", "0003-dashes.sql", "0003_Capitals.sql", "carts.sql"])
def test_a_misnamed_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_text(CARTS)
    with pytest.raises(MigrationError, match=r"name it NNNN_what_it_does\.sql"):
        read_migrations(folder)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE carts (id INT64) PRIMARY KEY (id)",
        "CREATE UNIQUE INDEX by_owner ON carts (owner)",
        "CREATE VIEW v SQL SECURITY INVOKER AS SELECT 1 AS one",
        "ALTER TABLE carts ADD COLUMN owner STRING(10)",
        "DROP TABLE carts",
        "INSERT INTO carts (id) VALUES (1)",
    ],
)
def test_a_statement_that_cannot_be_repeated_is_refused(folder: Path, statement: str) -> None:
    (folder / "0003_once.sql").write_text(f"-- once\n{statement};")
    with pytest.raises(MigrationError, match="does not bear repetition") as refused:
        read_migrations(folder)
    assert statement in str(refused.value)


def test_a_migration_without_a_statement_is_refused(folder: Path) -> None:
    (folder / "0003_nothing.sql").write_text("-- later;\n")
    with pytest.raises(MigrationError, match="has no statement"):
        read_migrations(folder)


def test_statements_are_split_at_semicolons_outside_of_quotes_and_comments() -> None:
    text = """
    -- first; not a statement
    CREATE TABLE a (x STRING(3) DEFAULT ('a;b')); /* a; b
    ; c */ DROP TABLE `odd;name`;
    SELECT "it\\";s", '--x'; SELECT 1"""
    assert split_statements(text) == [
        "CREATE TABLE a (x STRING(3) DEFAULT ('a;b'))",
        "DROP TABLE `odd;name`",
        'SELECT "it\\";s", \'--x\'',
        "SELECT 1",
    ]
