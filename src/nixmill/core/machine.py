"""A machine that builds, and Nix's `machines` file that lists them.

What it decides: whether a machine may build a thing, by system and features. What it does not know: whether the
machine can be reached, how many builds it has (`nixmill.core.schedule`), or where a file named by `@file` is.
Source: Nix manual, "Remote builds"; `src/libstore/machines.cc` (Nix 2.34). One machine a line, fields apart by white
space: address, systems, ssh key, most builds at once, speed, supported features, mandatory features, public host key.
"""

import re
from binascii import Error as BinasciiError
from binascii import a2b_base64
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

LOCAL: Final = "local"
"""The address of this machine's own store."""

ANY_SYSTEM: Final = "builtin"
"""The system of Nix's built-in builders, which every machine has."""

_FIELDS_MAX: Final = 8
_NO_SCHEME_NEEDED: Final = re.compile(r"(auto|daemon|local)(\?|\Z)|\?")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A store that builds."""

    address: str
    """A Nix store address such as `ssh-ng://builder-1`; `local` for this machine."""
    systems: tuple[str, ...]
    max_jobs: int = 1
    """Most builds at once; 0 switches it off."""
    speed_factor: float = 1.0
    supported_features: frozenset[str] = frozenset()
    mandatory_features: frozenset[str] = frozenset()
    """Only derivations that require all of these may be built there."""
    ssh_key: str = ""
    """Path of the private key; empty for ssh's own choice."""
    public_host_key: str = ""
    """Base 64 of the host's public key line; empty where ssh's known hosts decide."""

    @property
    def name(self) -> str:
        """The address as people say it: without the scheme and parameters."""
        return self.address.split("://", 1)[-1].split("?", 1)[0].rstrip("/") or self.address

    def fits(self, system: str, features: frozenset[str]) -> bool:
        """Say whether it may build a derivation of that system which requires these features."""
        return (
            self.max_jobs > 0
            and (system == ANY_SYSTEM or system in self.systems)
            and features <= self.supported_features | self.mandatory_features
            and self.mandatory_features <= features
        )


class MachinesError(ValueError):
    """A line of a machines file makes no sense; the message says which and why."""


class Listing(NamedTuple):
    """What a machines text holds."""

    machines: tuple[Machine, ...]
    files: tuple[str, ...]
    """Paths after `@`, to be read by the caller; Nix ignores those that do not exist."""


def parse(text: str, this_system: str) -> Listing:
    """Return the machines of a text in Nix's format; raise `MachinesError` where a line makes no sense.

    `this_system` stands where a line names no system. Entries are apart by line ends or `;`, `#` starts a comment.
    """
    machines: list[Machine] = []
    files: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        for entry in line.split("#", 1)[0].split(";"):
            words = entry.split()
            if entry.strip().startswith("@"):
                files.append(entry.strip()[1:].strip())
            elif words:
                machines.append(_machine(words, number, this_system))
    return Listing(tuple(machines), tuple(files))


def show(machines: Iterable[Machine]) -> str:
    """Return machines in Nix's format, one a line: the inverse of `parse`."""
    return "".join(" ".join(_words(machine)) + "\n" for machine in machines)


def refusal(machines: Iterable[Machine], system: str, features: frozenset[str]) -> str:
    """Say why no machine can ever build such a derivation; empty where one can."""
    working = [machine for machine in machines if machine.max_jobs > 0]
    if any(machine.fits(system, features) for machine in working):
        return ""
    if not working:
        return "no machine is set to build anything (max-jobs is 0 and there are no builders)"
    able = [machine for machine in working if machine.fits(system, features | machine.mandatory_features)]
    if able:
        reserved = " and ".join(sorted(able[0].mandatory_features - features))
        return f"{able[0].name} would fit, but takes only builds that need {reserved}"
    native = [m for m in working if system == ANY_SYSTEM or system in m.systems]
    if not native:
        return f"needs {system}; no machine is one"
    offered = frozenset[str]().union(*(m.supported_features | m.mandatory_features for m in native))
    lacking = sorted(features - offered)
    if not lacking:
        return f"needs {' and '.join(sorted(features))}; no machine offers all of them"
    return f"needs {' and '.join(lacking)}; no machine offers it"


def _machine(words: list[str], number: int, this_system: str) -> Machine:
    if len(words) > _FIELDS_MAX:
        raise MachinesError(
            f"Line {number} of the machines file has {len(words)} fields, Nix knows {_FIELDS_MAX}: "
            f"remove what follows {words[_FIELDS_MAX - 1]!r}."
        )
    fields = [*("" if word == "-" else word for word in words), *[""] * (_FIELDS_MAX - len(words))]
    address, systems, ssh_key, max_jobs, speed, supported, mandatory, host_key = fields
    if not address:
        raise MachinesError(f"Line {number} of the machines file has no store address in its first field.")
    return Machine(
        address=_address(address),
        systems=tuple(dict.fromkeys(_listed(systems))) or (this_system,),
        ssh_key=ssh_key,
        max_jobs=_count(max_jobs or "1", number),
        speed_factor=_speed(speed or "1", number),
        supported_features=frozenset(_listed(supported)),
        mandatory_features=frozenset(_listed(mandatory)),
        public_host_key=_base64(host_key, number),
    )


def _address(text: str) -> str:
    """Put `ssh://` before a bare host name, as Nix does for old files."""
    return text if "/" in text or _NO_SCHEME_NEEDED.match(text) else f"ssh://{text}"


def _listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _count(text: str, number: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise MachinesError(
            f"Line {number} of the machines file: the fourth field, most builds at once, is {text!r}; "
            "it must be a whole number."
        )
    return int(text)


def _speed(text: str, number: int) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise MachinesError(
            f"Line {number} of the machines file: the fifth field, the speed factor, is {text!r}; "
            "it must be a number such as 1 or 1.5."
        )
    return float(text) or 1.0


def _base64(text: str, number: int) -> str:
    try:
        a2b_base64(text, strict_mode=True)
    except BinasciiError as error:
        raise MachinesError(
            f"Line {number} of the machines file: the eighth field, the public host key, is not base 64 ({error}); "
            "make it with `base64 -w0 /etc/ssh/ssh_host_ed25519_key.pub`."
        ) from error
    return text


def _words(machine: Machine) -> tuple[str, ...]:
    return (
        machine.address,
        ",".join(machine.systems) or "-",
        machine.ssh_key or "-",
        str(machine.max_jobs),
        format(machine.speed_factor, ".9f").rstrip("0").rstrip("."),
        ",".join(sorted(machine.supported_features)) or "-",
        ",".join(sorted(machine.mandatory_features)) or "-",
        machine.public_host_key or "-",
    )
