"""Which parts of the system an evaluation needs: its programs, the libraries they load, authorities of certificates.

On most systems programs are below `/usr`; on NixOS they are store paths, of which the closure is needed.
What this file does not know: how the parts get into a sandbox (`bwrap_command.py`, `inside.py`).
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.edge.nix_installation import output_of
from nixmill.nix.store_path import DEFAULT_STORE_DIR

_ROOT: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_USR: Final = "/usr"
_AUTHORITIES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


class SystemParts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. Paths are free of links."""

    programs: Mapping[str, str]
    """Where each program is that was asked for."""
    python: str
    places: tuple[str, ...]
    """Directories and files to be seen."""
    links: Mapping[str, str]
    closure: tuple[str, ...]
    """Store paths of `/nix/store` that the programs need."""
    forgotten: tuple[str, ...]
    """Places of Python alone, of no use once the sandbox is set up."""
    authorities: str
    """A file of certificates; empty where there is none."""

    @property
    def path(self) -> str:
        """Return a PATH that finds the programs."""
        own = [str(Path(program).parent) for name, program in self.programs.items() if name != "python"]
        return ":".join(dict.fromkeys([*own, "/usr/bin", "/bin"]))


async def find(names: Sequence[str], environment: Mapping[str, str]) -> SystemParts:
    """Look for programs on the PATH of `environment`; raise `InputError` where the first of them is missing.

    The others are left out where they are missing.
    """
    parts = await asyncio.to_thread(_on_disk, names, environment)
    needed = [path for path in parts.programs.values() if _in_store(path)]
    return msgspec.structs.replace(parts, closure=await _closure(needed, environment))


def _on_disk(names: Sequence[str], environment: Mapping[str, str]) -> SystemParts:
    """Return all but the closure."""
    programs = _programs(names, environment)
    if names[0] not in programs:
        raise InputError(f"There is no program {names[0]!r} on PATH.", "Install Nix, or mend PATH.")
    python = os.path.realpath(sys.executable)
    bases = dict.fromkeys(os.path.realpath(place) for place in (sys.base_prefix, sys.base_exec_prefix))
    alone = tuple(place for place in bases if not _is_below(place, _USR) and not _in_store(place))
    common = [_USR] if Path(_USR, "lib").is_dir() else []
    common += [place for place in _ROOT if Path(place).is_dir() and not Path(place).is_symlink()]
    covered = (*common, *alone, DEFAULT_STORE_DIR)
    loose = [path for path in (*programs.values(), python) if not any(_is_below(path, by) for by in covered)]
    return SystemParts(
        programs={**programs, "python": python},
        python=python,
        places=(*common, *loose, *alone),
        links={place: str(Path(place).readlink()) for place in _ROOT if Path(place).is_symlink()},
        closure=(),
        forgotten=alone,
        authorities=_authorities(environment),
    )


def _programs(names: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    found = {name: shutil.which(name, path=environment.get("PATH", os.defpath)) for name in names}
    return {name: os.path.realpath(path) for name, path in found.items() if path is not None}


async def _closure(paths: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    if not paths:
        return ()
    roots = sorted({path[: path.index("/", len(DEFAULT_STORE_DIR) + 1)] for path in paths})
    ours = {name: value for name, value in environment.items() if not name.startswith("NIX_") or name == "NIX_REMOTE"}
    said = await output_of(["nix-store", "--query", "--requisites", *roots], ours)
    return tuple(sorted(set(said.split())))


def _in_store(path: str) -> bool:
    return _is_below(path, DEFAULT_STORE_DIR)


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")


def _authorities(environment: Mapping[str, str]) -> str:
    named = (environment.get("NIX_SSL_CERT_FILE"), environment.get("SSL_CERT_FILE"), *_AUTHORITIES)
    return next((os.path.realpath(path) for path in named if path and Path(path).is_file()), "")
