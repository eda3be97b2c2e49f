"""What goes wrong with a cache, as errors of the doors. Sentences about caches in trouble are written here."""

import contextlib
import errno
from collections.abc import Iterator
from typing import Final

from nixmill.doors import DoorError

DOOR: Final = "cache"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def fault(message: str, *, action: str, subject: str, retryable: bool = False) -> DoorError:
    """Return an error of this door."""
    return DoorError(message, door=DOOR, action=action, subject=subject, retryable=retryable)


def of_disk(error: OSError, action: str, where: str) -> DoorError:
    """Return the error for a directory that would not do what was asked; `action` is a verb with its preposition."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        advice = "Make room on that disk, or let the cache keep less (max-gib)."
    elif error.errno in _FORBIDDEN:
        advice = "Let the user that runs the server write there."
    else:
        advice = "Look at that disk; the system's log may say more."
    return fault(
        f"The server could not {action} the cache in {where}: {reason}. {advice}",
        action=action,
        subject=where,
        retryable=error.errno not in _FORBIDDEN,
    )


@contextlib.contextmanager
def explained(action: str, where: str) -> Iterator[None]:
    """Tell errors of the operating system as errors of this door."""
    try:
        yield
    except OSError as error:
        raise of_disk(error, action, where) from error
