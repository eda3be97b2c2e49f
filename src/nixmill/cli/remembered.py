"""Servers this user signed in to: `servers.json` in the configuration directory, which nobody else can read."""

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from nixmill.core.errors import InputError


class Remembered(msgspec.Struct, kw_only=True):
    """What the file holds."""

    server: str = ""
    """The address that is used where none is named; that of the last sign-in."""
    tokens: dict[str, str] = {}
    """By address."""


def remembered_file(environ: Mapping[str, str]) -> Path:
    """Return where the file is, as the XDG base directory specification says."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "/") / ".config")
    return Path(base) / "nixmill" / "servers.json"


def recall(environ: Mapping[str, str]) -> Remembered:
    """Return what is remembered; nothing where there is no file. Raises `InputError` where it cannot be read."""
    path = remembered_file(environ)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Remembered)
    except FileNotFoundError:
        return Remembered()
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.", f"Remove it and sign in again: rm {path}") from error


def remember(environ: Mapping[str, str], what: Remembered) -> Path:
    """Write the file anew, in one step and with its final mode; return where it is."""
    path = remembered_file(environ)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".servers-")  # has mode 0600 from its beginning
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(what)) + b"\n")
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    return path
