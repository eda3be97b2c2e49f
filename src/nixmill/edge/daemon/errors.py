"""What goes wrong with daemons, as errors of the doors. Every sentence about a daemon in trouble is written here."""

import contextlib
from collections.abc import Iterator
from typing import Final

from nixmill.doors import DoorError, NotAllowedError
from nixmill.nix.wire import ProtocolError
from nixmill.nix.worker_protocol import RemoteError, UnsupportedError

DOOR: Final = "store"
_FORBIDDEN: Final = (
    "not privileged",
    "not allowed to",
    "lacks a valid signature",
    "lacks a signature by a trusted key",
    "Permission denied",
    "do not have permission",
    "is not a trusted user",
)


class ConnectionLostError(DoorError):
    """The daemon, or the way to it, went away in the middle. The same call may succeed on a new connection."""


class GarbledError(DoorError, ProtocolError):
    """The daemon answered bytes that make no sense."""


class DaemonError(DoorError):
    """The daemon could not do what was asked, and said why."""


def lost(address: str, detail: str = "") -> ConnectionLostError:
    """Return the error for a connection that ended early; `detail` is what the other side printed."""
    said = f" It said: {detail}" if detail else ""
    return ConnectionLostError(
        f"The connection to the Nix daemon ({address}) was lost.{said} The work is tried again on a new one.",
        door=DOOR,
        action="talk",
        subject=address,
        retryable=True,
    )


def garbled(address: str, error: ProtocolError) -> GarbledError:
    """Return the error for an answer that makes no sense."""
    return GarbledError(
        f"The Nix daemon ({address}) answered something that is not the worker protocol: {error} "
        "If it happens again, compare the versions of Nix on both sides.",
        door=DOOR,
        action="talk",
        subject=address,
        retryable=True,
    )


def unreachable(address: str, reason: str, *, retryable: bool = False) -> DoorError:
    """Return the error for a daemon that cannot be reached at all."""
    return DoorError(
        f"No Nix daemon can be reached at {address}: {reason}",
        door=DOOR,
        action="connect",
        subject=address,
        retryable=retryable,
    )


def not_allowed(action: str, subject: str, reason: str) -> NotAllowedError:
    """Return the error for something that needs more rights."""
    return NotAllowedError(
        f"The Nix daemon refused to {action} {subject}: {reason} "
        "Add this user to `trusted-users` in that machine's nix.conf, or run as one who is.",
        door=DOOR,
        action=action,
        subject=subject,
        retryable=False,
    )


def unreadable(drv_path: str, error: Exception) -> DoorError:
    """Return the error for a `.drv` file that is damaged or of a kind we do not know."""
    return DoorError(
        f"{drv_path} cannot be read: {error} Check it with `nix-store --verify-path`.",
        door=DOOR,
        action="read",
        subject=drv_path,
        retryable=False,
    )


@contextlib.contextmanager
def explained(action: str, subject: str) -> Iterator[None]:
    """Turn a daemon's own error into one of the door; `action` is a verb such as `build`."""
    try:
        yield
    except UnsupportedError as error:
        raise DoorError(str(error), door=DOOR, action=action, subject=subject, retryable=False) from error
    except RemoteError as error:
        if any(words in str(error) for words in _FORBIDDEN):
            raise not_allowed(action, subject, f"{error}.") from error
        raise DaemonError(
            f"The Nix daemon could not {action} {subject}: {error}",
            door=DOOR,
            action=action,
            subject=subject,
            retryable=True,
        ) from error
