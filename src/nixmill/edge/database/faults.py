"""What goes wrong with a database, in sentences for people, and what may be tried again.

Source: SQLite's result codes (sqlite.org/rescode.html); PostgreSQL's SQLSTATE (its manual, appendix A). Python gives
them with each error, but for PostgreSQL's errors while connecting: those have a text alone.
"""

import errno
import re
import sqlite3
from enum import Enum, auto
from typing import Final

import msgspec
import sqlalchemy.exc

from nixmill.doors import DoorError, NotAllowedError
from nixmill.edge.database.migrate import NewerSchemaError


class UnfitServerError(Exception):
    """The server cannot hold nixmill's database; the text says why."""


EXPECTED: Final = (
    sqlalchemy.exc.SQLAlchemyError,
    sqlite3.Error,
    OSError,
    NewerSchemaError,
    UnfitServerError,
    msgspec.MsgspecError,
)
"""What `door_error` puts into words; anything else is a fault of nixmill."""

_MOVE_AWAY: Final = "Move it away to start a new history, or put a backup in its place."
_OUR_FAULT: Final = "that is a fault of nixmill."

_SENTENCES: Final[dict[int, tuple[str, bool]]] = {
    sqlite3.SQLITE_BUSY: ("another process kept it locked for too long. Try again.", True),
    sqlite3.SQLITE_FULL: ("the disk is full. Make room and try again.", True),
    sqlite3.SQLITE_IOERR: ("the disk could not be read or written. Look into the system's log.", True),
    sqlite3.SQLITE_CORRUPT: (f"it is damaged. {_MOVE_AWAY}", False),
    sqlite3.SQLITE_NOTADB: (f"it is not an SQLite database. {_MOVE_AWAY}", False),
    sqlite3.SQLITE_CONSTRAINT: (f"rows contradict what is recorded; {_OUR_FAULT}", False),
}
_NOT_ALLOWED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})

_GONE: Final = (
    "the PostgreSQL server does not answer. Nothing was recorded; see that it runs (pg_isready), then try again.",
    True,
)
_STATES: Final[dict[str, tuple[str, bool]]] = {
    "08": _GONE,
    "23": (f"rows contradict what is recorded; {_OUR_FAULT}", False),
    "25006": ("the server only lets it be read, as a standby does. Give the address of the primary.", False),
    "28": ("the server did not let this user in. Look at the user, the password, and pg_hba.conf.", False),
    "3D": ("the server has no such database. Create it with: createdb -E UTF8 -T template0 NAME", False),
    "40": ("other transactions were in the way again and again. Try again.", True),
    "42501": ("this user may not do that there. Let it own the database, or grant it rights on the schema.", False),
    "53100": ("the server's disk is full. Make room and try again.", True),
    "53300": ("the server has too many connections already. Raise max_connections, or try again.", True),
    "55P03": ("somebody kept it locked for too long. Try again.", True),
    "57P": _GONE,
    "58": ("the server's disk could not be read or written. Look into its log.", True),
    "XX": ("it is damaged. Look into the server's log.", False),
}
"""By the beginning of the SQLSTATE; the longest that fits counts."""

_WORDS_OF_CONNECTING: Final = (
    ("password authentication failed", "28"),
    ("no password supplied", "28"),
    ("no pg_hba.conf entry", "28"),
    ("Peer authentication failed", "28"),
    ("role ", "28"),
    ("database ", "3D"),
    ("permission denied for database", "42501"),
    ("too many connections", "53300"),
    ("remaining connection slots", "53300"),
)
"""What the server says, in English, where it does not let somebody in; and the SQLSTATE that it means."""
_TRY_LATER: Final = frozenset({"53300", "57P01", "57P02", "57P03"})


class Trouble(Enum):
    """What an error means for a second try."""

    GONE = auto()
    """There is no connection; another one may do."""
    RACE = auto()
    """The transaction lost against another one; at once again."""
    FAULT = auto()
    """Another try would end alike."""


def trouble(error: sqlalchemy.exc.DBAPIError) -> Trouble:
    """Say what an error means for a second try. SQLite waits by itself, so there it is always a `FAULT`."""
    if isinstance(error.orig, sqlite3.Error):
        return Trouble.FAULT
    state = sqlstate(error)
    if state in {"40001", "40P01"}:
        return Trouble.RACE
    gone = error.connection_invalidated or state.startswith("08") or state in _TRY_LATER
    return Trouble.GONE if gone else Trouble.FAULT


def sqlstate(error: sqlalchemy.exc.DBAPIError) -> str:
    """Return the SQLSTATE of an error of PostgreSQL; `08006` where the server could not be reached."""
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(state, str):
        return state
    if not isinstance(error, sqlalchemy.exc.OperationalError):
        return ""
    text = re.split("FATAL:|fe_sendauth:", str(error.orig))[-1].strip()
    return next((state for words, state in _WORDS_OF_CONNECTING if text.startswith(words)), "08006")


def door_error(error: BaseException, *, place: str, action: str) -> DoorError:
    """Return the error to raise instead of `error`, which must be one of `EXPECTED`; set its cause to `error`."""
    if isinstance(error, DoorError):
        return error
    made = _door_error(error, f"The database {place} cannot be used", place, action)
    made.__cause__ = error
    return made


def _door_error(error: BaseException, start: str, place: str, action: str) -> DoorError:
    original = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    match original:
        case NewerSchemaError():
            what, retryable = f"it was written by a newer nixmill (schema {original.found}). Use that one.", False
        case sqlite3.Error() if _code(original) in _NOT_ALLOWED:
            return _not_allowed(start, place, action, str(original))
        case sqlite3.Error():
            sentence, retryable = _SENTENCES.get(_code(original), (_OUR_FAULT, False))
            what = f"{sentence} ({original})"
        case OSError(errno=errno.EACCES | errno.EPERM | errno.EROFS):
            return _not_allowed(start, place, action, str(original))
        case OSError():
            what, retryable = f"{original.strerror or original}.", True
        case msgspec.MsgspecError():
            what, retryable = f"it holds a row that this nixmill cannot read: {original}.", False
        case _ if isinstance(error, sqlalchemy.exc.DBAPIError):
            what, retryable = _of_postgresql(error)
        case _:
            what, retryable = f"{original}", False
    return DoorError(f"{start}: {what}", door="history", action=action, subject=place, retryable=retryable)


def _of_postgresql(error: sqlalchemy.exc.DBAPIError) -> tuple[str, bool]:
    state = "08006" if error.connection_invalidated else sqlstate(error)
    sentence, retryable = next((_STATES[state[:n]] for n in (5, 3, 2) if state[:n] in _STATES), (_OUR_FAULT, False))
    detail = " ".join(str(error.orig).split())[:300]
    return f"{sentence} ({detail})", retryable


def _not_allowed(start: str, place: str, action: str, detail: str) -> NotAllowedError:
    sentence = f"{start}: this user may not write there, or the file system is read-only ({detail})."
    return NotAllowedError(sentence, door="history", action=action, subject=place, retryable=False)


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code; -1 for errors of the Python module itself."""
    return getattr(error, "sqlite_errorcode", -1) & 0xFF if hasattr(error, "sqlite_errorcode") else -1
