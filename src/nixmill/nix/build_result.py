"""What a daemon answers to a build: a status number, a message and the outputs.

Source: `src/libstore/build-result.hh` (Nix 2.8 to 2.34). Map results on the number, never on the text.
Times in it are unreliable (always zero since Nix 2.34.8): time the build from its activities instead.
"""

from enum import IntEnum

import msgspec

from nixmill.nix.store_path import StorePath


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


GOOD = frozenset(
    {
        BuildStatus.BUILT,
        BuildStatus.SUBSTITUTED,
        BuildStatus.ALREADY_VALID,
        BuildStatus.RESOLVES_TO_ALREADY_VALID,
    }
)


class BuildResult(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's verdict on one derived path; `message` is free of ANSI codes."""

    status: BuildStatus
    message: str = ""
    outputs: dict[str, StorePath] = {}

    @property
    def good(self) -> bool:
        """Say whether the outputs are now valid in the store that answered."""
        return self.status in GOOD
