import os
import sqlite3
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synopsis_writer.errors import FileError
from synopsis_writer.storage.sqlite import (
    LOCKED,
    describe,
    error_code,
    open_database,
    read_database,
    remove_database,
    transaction,
)

FIRST = "CREATE TABLE notes (text TEXT NOT NULL)"
SECOND = "ALTER TABLE notes ADD COLUMN author TEXT; UPDATE notes SET author = 'unknown'"


def test_a_file_of_an_older_version_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "notes.sqlite3"
    old = open_database(path, [FIRST])
    old.execute("INSERT INTO notes VALUES ('Klara fährt.')")
    old.close()
    for _ in range(2):
        new = open_database(path, [FIRST, SECOND])
        assert new.execute("SELECT * FROM notes").fetchall() == [("Klara fährt.", "unknown")]
        assert new.execute("PRAGMA user_version").fetchone() == (2,)
        assert new.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        new.close()


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite3"
    open_database(path, [FIRST, SECOND]).close()
    with pytest.raises(FileError, match=r"notes\.sqlite3 was written by a newer version.*: update"):
        open_database(path, [FIRST])


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite3"
    open_database(path, [FIRST]).close()
    with pytest.raises(FileError, match=r"notes\.sqlite3.*move it away"):
        open_database(path, [FIRST, SECOND + "; SELECT nonsense"])
    database = open_database(path, [FIRST])
    assert [row[1] for row in database.execute("PRAGMA table_info(notes)")] == ["text"]
    database.close()


def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite3"
    path.write_text("Das ist ein Brief.\n" * 100, encoding="utf-8")
    with pytest.raises(FileError, match="file is not a database: move it away"):
        open_database(path, [FIRST])
    assert path.read_text(encoding="utf-8").startswith("Das ist ein Brief.")


def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileError, match="name another place"):
        open_database(tmp_path / "file" / "notes.sqlite3", [FIRST])
    with pytest.raises(FileError):
        open_database(tmp_path, [FIRST])


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite3"
    database = open_database(path, [FIRST])
    database.execute("INSERT INTO notes VALUES ('geheim')")
    modes = {entry.name: entry.stat().st_mode & 0o077 for entry in os.scandir(tmp_path)}
    assert modes
    assert set(modes.values()) == {0}
    database.close()


def test_a_transaction_is_done_whole_or_not_at_all() -> None:
    database = open_database(None, [FIRST])

    def fill() -> None:
        with transaction(database):
            database.execute("INSERT INTO notes VALUES ('eins')")
            database.execute("INSERT INTO notes VALUES (NULL)")

    with pytest.raises(sqlite3.IntegrityError):
        fill()
    assert database.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    database.close()


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """An intact database in a read-only folder; root drops its rights for the test."""
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "notes.sqlite3")
        database = open_database(path, [FIRST])
        database.execute("INSERT INTO notes VALUES ('Klara fährt.')")
        database.close()
        path.chmod(0o444)
        path.parent.chmod(0o555)
        if user == 0:
            os.seteuid(65534)
        yield path
        os.seteuid(user)
        path.parent.chmod(0o755)


def test_an_intact_file_is_read_where_nothing_can_be_written(unwritable: Path) -> None:
    with pytest.raises(FileError, match="see whether the disk is full") as caught:
        open_database(unwritable, [FIRST])
    assert "move it away" not in str(caught.value)
    database = read_database(unwritable, [FIRST])
    assert database.execute("SELECT * FROM notes").fetchall() == [("Klara fährt.",)]
    with pytest.raises(sqlite3.OperationalError):
        database.execute("DELETE FROM notes")
    database.close()


def test_a_file_of_another_version_is_not_read_as_it_is(unwritable: Path) -> None:
    with pytest.raises(FileError, match="see whether the disk is full"):
        read_database(unwritable, [FIRST, SECOND])


def test_a_file_that_is_not_a_database_is_not_read_either(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("Das ist ein Brief.\n" * 100, encoding="utf-8")
    with pytest.raises(FileError, match="move it away"):
        read_database(tmp_path / "file", [FIRST])


def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="name another place"):
        read_database(tmp_path, [FIRST])


def test_a_database_is_deleted_with_its_logs(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite3"
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).write_bytes(b"damaged")
    remove_database(path)
    assert list(tmp_path.iterdir()) == []
    remove_database(path)
    path.mkdir()
    with pytest.raises(FileError, match=r"cannot delete .*notes\.sqlite3"):
        remove_database(path)


def test_a_database_that_another_process_holds_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite3"
    holder, other = open_database(path, [FIRST]), open_database(path, [FIRST])
    other.execute("PRAGMA busy_timeout=0")
    with transaction(holder), pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("INSERT INTO notes VALUES ('zwei')")
    assert error_code(caught.value) in LOCKED
    assert error_code(None) == 0
    assert describe(caught.value, "move it away").endswith("another program holds it: try again when it is done")
    holder.close()
    other.close()


def test_threads_share_a_connection_and_take_turns(tmp_path: Path) -> None:
    database = open_database(tmp_path / "notes.sqlite3", [FIRST])

    def note(text: str) -> None:
        with transaction(database):
            before = database.execute("SELECT count(*) FROM notes").fetchone()[0]
            database.execute("INSERT INTO notes VALUES (?)", (f"{before} {text}",))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(note, "abcdefgh" * 20))
    numbers = [int(text.split()[0]) for (text,) in database.execute("SELECT text FROM notes ORDER BY rowid")]
    assert numbers == list(range(160))
    database.close()


def test_a_closed_connection_is_no_damage(tmp_path: Path) -> None:
    database = open_database(tmp_path / "notes.sqlite3", [FIRST])
    database.close()
    with pytest.raises(sqlite3.ProgrammingError) as caught:
        database.execute("SELECT 1")
    assert "move it away" not in describe(caught.value, "move it away, it is damaged")


def test_the_files_beside_a_log_keep_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite3"
    first = open_database(path, ("CREATE TABLE runs (id)",))
    first.execute("INSERT INTO runs VALUES (1)")
    sides = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
    for side in sides:
        side.chmod(0o644)  # as a copy or a sync leaves them
    second = open_database(path, ("CREATE TABLE runs (id)",))
    assert [side.stat().st_mode & 0o777 for side in (path, *sides)] == [0o600] * 3
    second.close()
    first.close()
