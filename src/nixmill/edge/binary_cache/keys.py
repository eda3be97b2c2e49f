"""Secret keys that sign what is published: made, and read from the files of credentials."""

import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError
from nixmill.edge.binary_cache.faults import fault
from nixmill.nix.signature import SecretKey, SigningKeyError, secret_text

_MODE: Final = 0o600
_SEED: Final = 32
_LONGEST: Final = 64 * 1024
"""More than any key file has; a name given wrongly may lead to something large."""


def make_key(file: Path, name: str) -> str:
    """Make a secret key of that name in a new file that only its owner can read; return the public key.

    Raises `DoorError` where the file exists (a key that was overwritten is lost), cannot be made, or the name is none.
    """
    text = secret_text(name, secrets.token_bytes(_SEED))
    try:
        public = SecretKey(text).public()
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    except SigningKeyError as error:
        raise _refused(
            f"{name!r} cannot be a key's name. Choose one without spaces and colons, such as ci.example.org-1.", file
        ) from error
    except FileExistsError as error:
        raise _refused(f"{file} exists and is left as it is. Name another file for the new key.", file) from error
    except OSError as error:
        raise _refused(f"The key could not be written to {file}: {error.strerror}. Name another file.", file) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(text + "\n")
        opened.flush()
        os.fsync(descriptor)
    return public


def read_key(file: Path) -> SecretKey:
    """Read a secret key; raise `DoorError` where there is none, or everybody on the machine could read it."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            mode = os.fstat(descriptor).st_mode
            if mode & stat.S_IRWXO:
                raise _refused(
                    f"The signing key in {file} is open to every user of this machine (mode {stat.S_IMODE(mode):04o}), "
                    f"so others may have it. Make a new key, or if nobody had access type: chmod o= {file}",
                    file,
                )
            text = opened.read(_LONGEST).decode("ascii", "replace")
    except OSError as error:
        raise _refused(
            f"The signing key in {file} could not be read: {error.strerror}. Look at [credentials] in the settings.",
            file,
        ) from error
    try:
        return SecretKey(text)
    except SigningKeyError as error:
        advice = "Make one with nix key generate-secret."
        raise _refused(f"{file} holds no signing key: {error} {advice}", file) from error


def read_keys(names: Sequence[str], credentials: Mapping[str, Path]) -> tuple[SecretKey, ...]:
    """Read the keys that credentials of these names hold; raise `DoorError` for the first that is none."""
    keys = []
    for name in names:
        if name not in credentials:
            raise fault(
                f"There is no credential {name}, which is to sign a cache. Name its file in [credentials].",
                action="read a key",
                subject=name,
            )
        keys.append(read_key(credentials[name]))
    return tuple(keys)


def _refused(message: str, file: Path) -> DoorError:
    return fault(message, action="use a key", subject=str(file))
