"""What a daemon answers to a build: a status number, a message and the outputs.

Map results on the number, never on the text, but for the few distinctions that only the text makes (`Detail`).
Times in it are unreliable (always zero since Nix 2.34.8): time the build from its activities instead.
Source: `src/libstore/build-result.hh` and `worker-protocol.cc` (Nix 2.8 to 2.35). The form of protocol features such as
`realisation-with-path-not-hash` is not read, because this client offers no feature.
"""

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from nixmill.nix import realisation
from nixmill.nix.log_events import plain
from nixmill.nix.realisation import Realisation, RealisationError
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import Parser, ProtocolError, Reader


class BuildStatus(IntEnum):
    """Nix's own numbers; a number that is not here is read as `MISC_FAILURE`."""

    BUILT = 0
    SUBSTITUTED = 1
    ALREADY_VALID = 2
    PERMANENT_FAILURE = 3
    INPUT_REJECTED = 4
    OUTPUT_REJECTED = 5
    TRANSIENT_FAILURE = 6
    CACHED_FAILURE = 7
    TIMED_OUT = 8
    MISC_FAILURE = 9
    DEPENDENCY_FAILED = 10
    LOG_LIMIT_EXCEEDED = 11
    NOT_DETERMINISTIC = 12
    RESOLVES_TO_ALREADY_VALID = 13
    NO_SUBSTITUTERS = 14


class Detail(StrEnum):
    """What a status number leaves open."""

    SILENCE = "silence"
    """With `TIMED_OUT`: the builder was silent too long. Without it, it ran too long."""
    HASH_MISMATCH = "hash mismatch"
    """With `OUTPUT_REJECTED`: a fixed-output derivation produced something else."""
    OUTPUT_SIZE = "output size"
    """With `OUTPUT_REJECTED`: the outputs are larger than the limit we set; they are valid all the same."""
    WRONG_MACHINE = "wrong machine"
    """With `INPUT_REJECTED`: this machine lacks the system or a feature."""


GOOD = frozenset(
    {
        BuildStatus.BUILT,
        BuildStatus.SUBSTITUTED,
        BuildStatus.ALREADY_VALID,
        BuildStatus.RESOLVES_TO_ALREADY_VALID,
    }
)

_NUMBERS: Final = frozenset(BuildStatus)
_WRONG_MACHINE: Final = (
    "is required to build",
    "required system or feature",
    "missing system features",
    "platform mismatch",
)
_TIMES_SINCE: Final = 29
_OUTPUTS_SINCE: Final = 28
_CPU_SINCE: Final = 37


class BuildResult(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's verdict on one derived path; `message` is free of ANSI codes."""

    status: BuildStatus
    message: str = ""
    outputs: dict[str, StorePath] = {}
    realisations: dict[str, Realisation] = {}
    """What was said of each of `outputs`, by name. It means nothing where the path follows from the derivation."""
    detail: Detail | None = None

    @property
    def good(self) -> bool:
        """Say whether the outputs are now valid in the store that answered."""
        return self.status in GOOD


def read(reader: Reader, minor: int, store_dir: str) -> Parser[BuildResult]:
    """Read a result as protocol 1.`minor` writes it."""
    number = yield from reader.u64()
    message = plain((yield from reader.text()))
    if minor >= _TIMES_SINCE:
        yield from reader.raw(32)  # times built, not deterministic, start, stop: unreliable
    if minor >= _CPU_SINCE:
        yield from _optional_microseconds(reader)
        yield from _optional_microseconds(reader)
    told = (yield from reader.text_map()) if minor >= _OUTPUTS_SINCE else {}
    status = BuildStatus(number) if number in _NUMBERS else BuildStatus.MISC_FAILURE
    realisations = dict(_output(key, value, store_dir) for key, value in told.items())
    return BuildResult(
        status=status,
        message=message,
        outputs={name: one.out_path for name, one in realisations.items()},
        realisations=realisations,
        detail=detail_of(status, message),
    )


def detail_of(status: BuildStatus, message: str) -> Detail | None:
    """Return what only the message tells."""
    match status:
        case BuildStatus.TIMED_OUT if "silence" in message:
            return Detail.SILENCE
        case BuildStatus.OUTPUT_REJECTED if "hash mismatch in fixed-output derivation" in message:
            return Detail.HASH_MISMATCH
        case BuildStatus.INPUT_REJECTED | BuildStatus.MISC_FAILURE if is_wrong_machine(message):
            return Detail.WRONG_MACHINE
        case _:
            return None


def is_wrong_machine(message: str) -> bool:
    """Say whether Nix refuses because this machine lacks the system or a feature (an error of the operation ≤ 2.26)."""
    return any(mark in message for mark in _WRONG_MACHINE)


def of_error(message: str) -> BuildResult | None:
    """Return the result that an error of an old daemon tells (BuildPaths has no results); None where it tells none."""
    text = plain(message)
    if "may not be deterministic" in text:
        return BuildResult(status=BuildStatus.NOT_DETERMINISTIC, message=text)
    if "failed with exit code" in text or "failed due to signal" in text:
        return BuildResult(status=BuildStatus.PERMANENT_FAILURE, message=text)
    return None


def _optional_microseconds(reader: Reader) -> Parser[int | None]:
    return (yield from reader.u64()) if (yield from reader.boolean()) else None


def _output(key: str, text: str, store_dir: str) -> tuple[str, Realisation]:
    """Return the name of one built output and what is said of it: `sha256:<hash>!<name>` → JSON."""
    try:
        found = realisation.parse(text, store_dir)
    except RealisationError as error:
        raise ProtocolError(f"{key!r} is not a built output: {error}") from None
    if not key.partition("!")[2]:
        raise ProtocolError(f"{key!r} with {text[:100]!r} is not a built output.")
    return key.partition("!")[2], found
