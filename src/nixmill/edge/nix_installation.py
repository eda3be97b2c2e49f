"""Finds the Nix installation: program, version, settings, directories.

The settings are read as text, because Nix 2.8's JSON gives experimental features as bare numbers. Two processes,
started together, neither of which opens a store or the network. Whoever asks keeps the answer; none is kept on disk.
Source: Nix manual, "Common Environment Variables"; `src/libstore/globals.cc` and `store-api.cc` (Nix 2.8, 2.34).
"""

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypedDict

from nixmill.core.errors import InputError
from nixmill.core.installation import NixInstallation, NixSettings, StoreAccess
from nixmill.core.terminal_text import strip_ansi
from nixmill.doors import DoorError
from nixmill.nix.version import NixVersion, NixVersionError, parse_version

OLDEST: Final = (2, 8, 0)
TIMEOUT_S: Final = 20.0
_NAMING: Final = {"NIX_STORE_DIR", "NIX_STATE_DIR"}


class _Asking(TypedDict):
    door: str
    action: str


_ASKING: Final = _Asking(door="nix", action="ask")
_REMEDY: Final = (
    "On Debian and Ubuntu: `sudo apt install nix-bin nix-setup-systemd` (Debian 12 or newer). "
    "On NixOS: `nix.enable = true;`, and an update of the channel where it is too old. Elsewhere: nixos.org/download."
)


async def find_installation(environment: Mapping[str, str]) -> NixInstallation:
    """Return the installation that this environment leads to.

    Raises `InputError` where Nix is missing or older than 2.8, `DoorError` where it does not answer.
    """
    program = shutil.which("nix", path=environment.get("PATH", os.defpath))
    if program is None:
        raise InputError("There is no `nix` on PATH.", _REMEDY)
    try:
        async with asyncio.TaskGroup() as asking:  # unlike gather, it waits for both to be gone when it is cancelled
            printing = asking.create_task(output_of([program, "--version"], environment))
            reading = asking.create_task(_settings(program, environment))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    printed, settings = printing.result(), reading.result()
    state_dir = environment.get("NIX_STATE_DIR") or "/nix/var/nix"
    socket = environment.get("NIX_DAEMON_SOCKET_PATH") or f"{state_dir}/daemon-socket/socket"
    return NixInstallation(
        program=program,
        version=_new_enough(printed, program),
        store_dir=environment.get("NIX_STORE_DIR") or environment.get("NIX_STORE") or "/nix/store",
        state_dir=state_dir,
        daemon_socket=socket,
        access=_access(Path(state_dir), Path(socket), named=bool(_NAMING & environment.keys())),
        settings=settings,
    )


def _new_enough(printed: str, program: str) -> NixVersion:
    try:
        version = parse_version(printed)
    except NixVersionError as error:
        raise DoorError(f"{program} is not a Nix that nixmill knows: {error}", **_ASKING, retryable=False) from error
    if version.numbers < OLDEST:
        raise InputError(f"{version} is too old: nixmill needs Nix 2.8 or newer ({program}).", _REMEDY)
    return version


def _access(state_dir: Path, socket: Path, *, named: bool) -> StoreAccess:
    """Decide as Nix does for `store = auto`; `named` is a store of which the environment says where it is."""
    if os.access(state_dir, os.R_OK | os.W_OK):
        return StoreAccess.DIRECT
    if _is_socket(socket):
        return StoreAccess.DAEMON
    # Root makes what is missing, others do where it is named; else they would get a store in the home directory.
    made = not state_dir.exists() and (os.geteuid() == 0 or (named and _can_be_made(state_dir)))
    return StoreAccess.DIRECT if made else StoreAccess.NONE


def _can_be_made(directory: Path) -> bool:
    return os.access(next(parent for parent in directory.parents if parent.exists()), os.W_OK)


def _is_socket(path: Path) -> bool:
    """Say whether a socket is there that we may at least see."""
    try:
        return path.is_socket()
    except PermissionError:
        return False


async def _settings(program: str, environment: Mapping[str, str]) -> NixSettings:
    enabled = ["--extra-experimental-features", "nix-command"]
    try:
        text = await output_of([program, *enabled, "show-config"], environment)
    except DoorError:
        text = await output_of([program, *enabled, "config", "show"], environment)
    return settings_of(text)


def settings_of(text: str) -> NixSettings:
    """Return the settings from the lines `name = value` of `nix config show`; raise `DoorError` on nonsense."""
    values = dict(_assignment(line) for line in text.splitlines() if " =" in line)
    try:
        return _settings_from(values)
    except (KeyError, ValueError) as error:
        sentence = f"The settings that Nix prints cannot be understood: {error!r}. This is a fault of nixmill."
        raise DoorError(sentence, **_ASKING, retryable=False) from error


def _assignment(line: str) -> tuple[str, str]:
    name, _, value = line.partition(" =")
    return name.strip(), value.strip()


def _settings_from(values: Mapping[str, str]) -> NixSettings:
    def words(name: str) -> tuple[str, ...]:
        return tuple(values.get(name, "").split())

    return NixSettings(
        system=values["system"],
        extra_platforms=words("extra-platforms"),
        system_features=frozenset(words("system-features")),
        substituters=words("substituters"),
        trusted_public_keys=words("trusted-public-keys"),
        trusted_users=words("trusted-users"),
        substitute=values.get("substitute", "true") == "true",
        require_sigs=values.get("require-sigs", "true") == "true",
        max_jobs=_jobs(values["max-jobs"]),
        cores=int(values["cores"]),
        builders=values.get("builders", ""),
        sandbox=values["sandbox"],
        sandbox_fallback=values.get("sandbox-fallback", "true") == "true",
        experimental_features=frozenset(words("experimental-features")),
        min_free=int(values.get("min-free", "0")),
        accept_flake_config=values.get("accept-flake-config", "false") == "true",
        build_users_group=values.get("build-users-group", ""),
        netrc_file=values.get("netrc-file", ""),
        store=values.get("store", "auto"),
    )


def _jobs(text: str) -> int:
    return (os.cpu_count() or 1) if text == "auto" else int(text)


async def output_of(command: list[str], environment: Mapping[str, str], *, with_errors: bool = False) -> str:
    """Return what a command prints; raise `DoorError` where it fails.

    It is killed where it takes too long or nobody waits any more.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise DoorError(f"{command[0]} cannot be started: {error.strerror}.", **_ASKING, retryable=False) from error
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise DoorError(
            f"`{' '.join(command)}` gave no answer in {TIMEOUT_S:.0f} s.", **_ASKING, retryable=True
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        said = strip_ansi(err.decode(errors="replace")).strip() or f"exit status {process.returncode}"
        raise DoorError(f"`{' '.join(command)}` failed: {said}", **_ASKING, retryable=False)
    return (out + err if with_errors else out).decode(errors="replace")
