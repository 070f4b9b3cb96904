"""The file that persistent policy lives in: one SQLite database, written by one transaction at a time.

Write-ahead logging with full synchronisation: a process that is killed, or a machine that loses power, during a commit
leaves the state before or the state after it.  Several processes may open one file; SQLite's lock makes them take turns
at writing, and each learns what the others wrote by asking ``has_changed``.  Knows rows and text, not what they mean.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from .errors import PolicyCode, PolicyStoreError, error_for

__all__ = ["Row", "Store"]

# "sspl": what `file` and we know the database by.
_APPLICATION_ID: Final = 0x7373706C
_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE numbers (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO numbers VALUES ('format', 1), ('next_id', 1), ('revision', 1);
CREATE TABLE objects (
    kind INTEGER NOT NULL, key BLOB NOT NULL, id INTEGER NOT NULL UNIQUE, revision INTEGER NOT NULL,
    body TEXT NOT NULL, security TEXT, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE containers (container TEXT PRIMARY KEY, security TEXT NOT NULL) WITHOUT ROWID;
"""


class Row(NamedTuple):
    """One stored object.  ``revision`` grows when anything about it changes; ``id`` is never used again."""

    kind: int
    key: UUID
    id: int
    revision: int
    body: str
    security: str | None


class Store:
    """An open database.  Not thread-safe: the engine's write lock is held around everything that changes it."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._pid = os.getpid()
        self._lost: Final[list[sqlite3.Connection]] = []
        self._revision = 0
        with self._errors():
            _check_file(path)
            self._own = self._connect()
            self._seen = self._data_version()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                message = f"another process is writing to {self._path}"
                raise error_for(PolicyCode.TIMEOUT, message) from None
            raise error_for(PolicyCode.ERROR_GEN_FAILURE, f"policy store {self._path}: {error}") from None
        except (sqlite3.Error, OSError) as error:
            raise error_for(PolicyCode.ERROR_GEN_FAILURE, f"policy store {self._path}: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        # Another thread may end a transaction that was held too long; the engine's lock keeps them apart.
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if not _is_store(connection):
                connection.execute("BEGIN IMMEDIATE")
                self._make_tables(connection)
                connection.execute("COMMIT")
            if _number(connection, "format") != _FORMAT:
                raise error_for(PolicyCode.ERROR_GEN_FAILURE, f"{self._path} is no policy store of this version")
        except (sqlite3.Error, PolicyStoreError):
            connection.close()
            raise
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        """Make an empty database a store; another process may have done so while this one waited for the lock."""
        if _is_store(connection):
            return
        if connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            raise error_for(PolicyCode.ERROR_GEN_FAILURE, f"{self._path} is no policy store")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")

    @property
    def _connection(self) -> sqlite3.Connection:
        """This process's connection.

        One that came through a fork may not be used, nor closed, on this side: it is kept so that nothing closes it.
        """
        if self._pid != os.getpid():
            self._lost.append(self._own)
            self._pid = os.getpid()
            self._own = self._connect()
            self._seen = 0
        return self._own

    def close(self) -> None:
        """Close the database; what was not committed is gone.  In a forked child nothing is touched."""
        if self._pid == os.getpid():
            with self._errors():
                self._own.close()

    # -- reading --------------------------------------------------------------------------------------------------

    def has_changed(self) -> bool:
        """Whether another process has committed since ``note_seen``."""
        with self._errors():
            return self._data_version() != self._seen

    def note_seen(self) -> None:
        """What is read from now on is what ``has_changed`` compares with."""
        with self._errors():
            self._seen = self._data_version()

    def _data_version(self) -> int:
        [version] = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def revisions(self) -> dict[tuple[int, UUID], tuple[int, int]]:
        """(kind, key) -> (id, revision) of everything stored."""
        with self._errors():
            rows = self._connection.execute("SELECT kind, key, id, revision FROM objects").fetchall()
        return {(kind, UUID(bytes=key)): (number, revision) for kind, key, number, revision in rows}

    def rows(self, only: set[int] | None = None) -> Iterator[Row]:
        """The stored objects, those that others may refer to first; ``only`` those with these ids."""
        with self._errors():
            rows = self._connection.execute(
                "SELECT kind, key, id, revision, body, security FROM objects ORDER BY kind, id"
            ).fetchall()
        for kind, key, number, revision, body, security in rows:
            if only is None or number in only:
                yield Row(kind, UUID(bytes=key), number, revision, body, security)

    def container_security(self) -> dict[str, str]:
        """The security descriptors of the containers that were given one."""
        with self._errors():
            return dict(self._connection.execute("SELECT container, security FROM containers").fetchall())

    # -- writing, between begin and commit or rollback ------------------------------------------------------------

    def begin(self, wait_s: float | None) -> None:
        """Take the write lock; PolicyTimeout when another process holds it for longer (None: never)."""
        # SQLite takes milliseconds in a C int; that many are three weeks.
        milliseconds = 0x7FFFFFFF if wait_s is None else min(int(wait_s * 1000), 0x7FFFFFFF)
        with self._errors():
            self._connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
            self._connection.execute("BEGIN IMMEDIATE")
            self._revision = _number(self._connection, "revision") + 1

    def take_id(self) -> int:
        """A number that no stored object ever had."""
        with self._errors():
            number = _number(self._connection, "next_id")
            self._connection.execute("UPDATE numbers SET value = ? WHERE name = 'next_id'", (number + 1,))
        return number

    def put(self, kind: int, key: UUID, number: int, body: str, security: str | None) -> int:
        """Write an object, in place of one with its key; returns the revision."""
        with self._errors():
            self._connection.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
                (kind, key.bytes, number, self._revision, body, security),
            )
        return self._revision

    def remove(self, kind: int, key: UUID) -> None:
        """Delete an object."""
        with self._errors():
            self._connection.execute("DELETE FROM objects WHERE kind = ? AND key = ?", (kind, key.bytes))

    def put_container_security(self, container: str, security: str) -> None:
        """Write the security descriptor of a container."""
        with self._errors():
            self._connection.execute("INSERT OR REPLACE INTO containers VALUES (?, ?)", (container, security))

    def commit(self) -> None:
        """Make everything since ``begin`` last.  After an error nothing of it does."""
        try:
            with self._errors():
                self._connection.execute("UPDATE numbers SET value = ? WHERE name = 'revision'", (self._revision,))
                self._connection.execute("COMMIT")
        finally:
            self.rollback()

    def rollback(self) -> None:
        """Give the lock back and forget what was written since ``begin``; nothing happens if there is none."""
        if self._connection.in_transaction:
            with self._errors():
                self._connection.execute("ROLLBACK")


def _is_store(connection: sqlite3.Connection) -> bool:
    [found] = connection.execute("PRAGMA application_id").fetchone()
    return bool(found == _APPLICATION_ID)


def _number(connection: sqlite3.Connection, name: str) -> int:
    [value] = connection.execute("SELECT value FROM numbers WHERE name = ?", (name,)).fetchone()
    return int(value)


def _check_file(path: Path) -> None:
    """Make the file for its owner alone, or refuse one that others could write into.

    An existing file is not opened: closing any descriptor of it would drop the locks that another connection of this
    process holds (fcntl(2)).
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600))
        return
    if not stat.S_ISREG(mode):
        raise error_for(PolicyCode.ERROR_GEN_FAILURE, f"{path} is no file")
    if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise error_for(PolicyCode.ERROR_GEN_FAILURE, f"{path}: others may write to it; chmod go-w it first")
