"""Gathers what `nixmill.core.doctor` judges. Reads and asks; changes nothing but for the trials of the sandboxes."""

import asyncio
import grp
import os
import pwd
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.doctor import Facts, HistoryFacts, Place, SandboxTrial
from nixmill.core.errors import InputError
from nixmill.core.installation import NixInstallation, StoreAccess
from nixmill.core.isolation import Isolation
from nixmill.doors import DoorError
from nixmill.edge.daemon.settings import DaemonSettings
from nixmill.edge.database.history import open_history
from nixmill.edge.nix_installation import find_installation, output_of
from nixmill.edge.sandbox.trial import try_isolation
from nixmill.edge.sandbox.upstream import connector
from nixmill.edge.sandbox_trial import try_sandbox
from nixmill.edge.substituters import probe
from nixmill.nix.version import Flavour, NixVersion, numbers_of

_VERSION: Final = re.compile(r"^Version: (?P<text>(?P<numbers>\d+\.\d+(?:\.\d+)?)\S*)", re.MULTILINE)
_TRUSTED: Final = re.compile(r"^Trusted: (?P<trusted>[01])", re.MULTILINE)
_FIRST_LIX: Final = (2, 90, 0)


async def gather(environment: Mapping[str, str], history_file: Path, *, try_out_sandbox: bool = False) -> Facts:
    """Return the facts about this machine; with `try_out_sandbox` both sandboxes are tried out.

    That is one tiny build, and attempts to break out of the sandbox of evaluations for strangers.
    """
    try:
        installation = await find_installation(environment)
    except (InputError, DoorError) as error:
        remedy = error.remedy if isinstance(error, InputError) else ""
        facts = Facts(installation=None, installation_fault=str(error), installation_remedy=remedy)
    else:
        facts = await _of_installation(installation, environment, try_out_sandbox=try_out_sandbox)
        if try_out_sandbox:
            isolation = await _isolation(installation, environment, history_file.parent)
            facts = msgspec.structs.replace(facts, isolation=isolation)
    state_dir = None if facts.installation is None else facts.installation.state_dir
    git, history, skew, kept = await asyncio.gather(
        _git_version(environment),
        _history(history_file),
        asyncio.to_thread(_clock_skew, history_file.parent),
        asyncio.to_thread(_kept_directories, environment, state_dir),
    )
    return msgspec.structs.replace(
        facts,
        darwin=sys.platform == "darwin",
        git_version=git,
        history=history,
        clock_skew_s=skew,
        kept_directories=kept,
        places=await asyncio.to_thread(_places, facts.installation, environment),
    )


async def _of_installation(
    installation: NixInstallation, environment: Mapping[str, str], *, try_out_sandbox: bool
) -> Facts:
    settings = installation.settings
    reachability, (daemon_version, trusted) = await asyncio.gather(
        probe(settings.substituters, store_dir=installation.store_dir), _daemon(installation, environment)
    )
    trial: SandboxTrial | None = None
    words = ""
    if try_out_sandbox:
        nix_build = str(Path(installation.program).with_name("nix-build"))
        trial, words = await try_sandbox(nix_build, settings.system, environment)
    return Facts(
        installation=installation,
        daemon_version=daemon_version,
        trusted=trusted,
        sandbox_trial=trial,
        sandbox_words=words,
        substituters=reachability,
    )


async def _isolation(installation: NixInstallation, environment: Mapping[str, str], state: Path) -> Isolation:
    """Try out the sandbox of evaluations for strangers."""
    connect = connector("auto", DaemonSettings.from_environment(environment))
    files = (state, Path(installation.state_dir, "db"))
    return await try_isolation(environment, connect, files=files, sockets=(Path(installation.daemon_socket),))


async def _daemon(
    installation: NixInstallation, environment: Mapping[str, str]
) -> tuple[NixVersion | None, bool | None]:
    """Return the version of the daemon, and whether it trusts this user; None where there is none or it is silent."""
    if installation.access is not StoreAccess.DAEMON:
        return None, None
    command = [installation.program, "--extra-experimental-features", "nix-command", "store", "ping"]
    try:
        said = await output_of(command, environment, with_errors=True)
    except DoorError:
        return None, _is_trusted(installation.settings.trusted_users)
    trusted = _TRUSTED.search(said)
    told = _is_trusted(installation.settings.trusted_users) if trusted is None else trusted["trusted"] == "1"
    found = _VERSION.search(said)
    return None if found is None else _version_of_daemon(found["numbers"], found["text"]), told


def _version_of_daemon(numbers: str, text: str) -> NixVersion:
    """Return the version that a daemon gives as a mere number; Lix counts from 2.90 on."""
    parsed = numbers_of(numbers)
    return NixVersion(Flavour.LIX if parsed >= _FIRST_LIX else Flavour.NIX, parsed, text)


def _is_trusted(trusted_users: tuple[str, ...]) -> bool:
    """Say whether `trusted-users` names this user or one of its groups."""
    groups = {f"@{grp.getgrgid(group).gr_name}" for group in os.getgroups()}
    names = {"*", pwd.getpwuid(os.geteuid()).pw_name} | groups
    return not names.isdisjoint(trusted_users)


def _places(installation: NixInstallation | None, environment: Mapping[str, str]) -> tuple[Place, ...]:
    wanted = {"temporary files": _temporary(environment)}
    if installation is not None:
        wanted = {"store": installation.store_dir, "state of Nix": installation.state_dir} | wanted
    found = [_place(name, Path(path)) for name, path in wanted.items()]
    return tuple(place for place in found if place is not None)


def _temporary(environment: Mapping[str, str]) -> str:
    return environment.get("TMPDIR") or "/tmp"  # noqa: S108 - where Nix builds unless it is told otherwise


def _place(name: str, path: Path) -> Place | None:
    """Return what the file system says of a directory; None where it does not exist."""
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return Place(
        name=name,
        path=str(path),
        free_bytes=found.f_bavail * found.f_frsize,
        free_files=found.f_favail if found.f_files else None,
        executable=not found.f_flag & os.ST_NOEXEC if hasattr(os, "ST_NOEXEC") else True,
    )


def _clock_skew(directory: Path) -> float | None:
    """Return how far our clock is ahead of the one that stamps files there; None where we cannot write."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            before = time.time()
            os.utime(file.name)
            return before - os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


async def _git_version(environment: Mapping[str, str]) -> str:
    program = shutil.which("git", path=environment.get("PATH", os.defpath))
    if program is None:
        return ""
    said = await output_of([program, "--version"], environment)
    return said.strip().removeprefix("git version ").split(" ", maxsplit=1)[0]


async def _history(file: Path) -> HistoryFacts | None:
    """Look into the history; None where there is none yet."""
    if not await asyncio.to_thread(file.exists):
        return None
    try:
        async with open_history(file) as history:
            faults = tuple(await history.check())
            killed = tuple(row.number for row in await history.crashed_runs())
    except DoorError as error:
        return HistoryFacts(file=str(file), faults=(str(error),), killed_runs=())
    return HistoryFacts(file=str(file), faults=faults, killed_runs=killed)


def _kept_directories(environment: Mapping[str, str], state_dir: str | None) -> tuple[str, ...]:
    """Return the build directories that Nix left: those of failed builds that were to be kept."""
    places = [Path(_temporary(environment))] + ([] if state_dir is None else [Path(state_dir, "builds")])
    found: list[str] = []
    for place in places:
        try:
            found += [str(each) for each in place.iterdir() if re.match(r"nix-(build-)?.+-\d+\Z", each.name)]
        except OSError:
            continue  # it does not exist, or is not for us to read
    return tuple(sorted(found))
