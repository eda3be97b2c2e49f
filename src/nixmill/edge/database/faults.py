"""What goes wrong with a database, in sentences for people.

Source: SQLite's result codes (sqlite.org/rescode.html); Python gives them with each error.
"""

import errno
import sqlite3
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy.exc

from nixmill.doors import DoorError, NotAllowedError
from nixmill.edge.database.migrate import NewerSchemaError

EXPECTED: Final = (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError, NewerSchemaError, msgspec.MsgspecError)
"""What `door_error` puts into words; anything else is a fault of nixmill."""

_MOVE_AWAY: Final = "Move it away to start a new history, or put a backup in its place."

_SENTENCES: Final[dict[int, tuple[str, bool]]] = {
    sqlite3.SQLITE_BUSY: ("another process kept it locked for too long. Try again.", True),
    sqlite3.SQLITE_FULL: ("the disk is full. Make room and try again.", True),
    sqlite3.SQLITE_IOERR: ("the disk could not be read or written. Look into the system's log.", True),
    sqlite3.SQLITE_CORRUPT: (f"it is damaged. {_MOVE_AWAY}", False),
    sqlite3.SQLITE_NOTADB: (f"it is not an SQLite database. {_MOVE_AWAY}", False),
    sqlite3.SQLITE_CONSTRAINT: ("rows contradict what is recorded; that is a fault of nixmill.", False),
}
_NOT_ALLOWED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})


def door_error(error: Exception, *, file: Path, action: str) -> DoorError:
    """Return the error to raise instead of `error`, which must be one of `EXPECTED`; set its cause to `error`."""
    if isinstance(error, DoorError):
        return error
    made = _door_error(error, f"The history database {file} cannot be used", str(file), action)
    made.__cause__ = error
    return made


def _door_error(error: Exception, start: str, file: str, action: str) -> DoorError:
    original = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    match original:
        case NewerSchemaError():
            what, retryable = f"it was written by a newer nixmill (schema {original.found}). Use that one.", False
        case sqlite3.Error() if _code(original) in _NOT_ALLOWED:
            return _not_allowed(start, file, action, str(original))
        case sqlite3.Error():
            sentence, retryable = _SENTENCES.get(_code(original), ("that is a fault of nixmill.", False))
            what = f"{sentence} ({original})"
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            return _not_allowed(start, file, action, str(original))
        case OSError():
            what, retryable = f"{original.strerror or original}.", True
        case msgspec.MsgspecError():
            what, retryable = f"it holds a row that this nixmill cannot read: {original}.", False
        case _:
            what, retryable = f"{original}.", False
    return DoorError(f"{start}: {what}", door="history", action=action, subject=file, retryable=retryable)


def _not_allowed(start: str, file: str, action: str, detail: str) -> NotAllowedError:
    sentence = f"{start}: this user may not write there, or the file system is read-only ({detail})."
    return NotAllowedError(sentence, door="history", action=action, subject=file, retryable=False)


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code; -1 for errors of the Python module itself."""
    return getattr(error, "sqlite_errorcode", -1) & 0xFF if hasattr(error, "sqlite_errorcode") else -1
