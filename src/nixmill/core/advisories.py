"""Published security advisories about Nix, and which versions they concern.

Decides by version number alone. Distributions patch without changing it, so what is said of them is "by its number".
Source of each entry: the advisory of the NixOS or Lix project that its `source` names. A release series without an
entry of its own never got the fix, unless it is newer than all that did.
"""

from typing import Final, NamedTuple

import msgspec

from nixmill.nix.version import Flavour, NixVersion, numbers_of

Numbers = tuple[int, int, int]


class Affected(NamedTuple):
    """Versions from `since` on, until the fix in their series."""

    since: str
    fixed: tuple[str, ...]
    """First good version of each series that got the fix."""


class Advisory(msgspec.Struct, frozen=True, kw_only=True):
    """One advisory, or a family of advisories published together."""

    names: tuple[str, ...]
    meaning: str
    """What an attacker can do, as the end of a sentence: `whoever …`."""
    source: str
    nix: Affected | None
    lix: Affected | None = None
    gives_root: bool
    only_darwin: bool = False


_GITHUB: Final = "https://github.com/NixOS/nix/security/advisories/"

ADVISORIES: Final = (
    Advisory(
        names=("CVE-2024-27297",),
        meaning="whoever may build can change the output of a fixed-output derivation after it was checked",
        source=_GITHUB + "GHSA-2ffj-w4mj-pg37",
        nix=Affected("0.0", ("2.3.18", "2.16.3", "2.18.2", "2.19.4", "2.20.5", "2.21.0")),
        gives_root=False,
    ),
    Advisory(
        names=("CVE-2024-38531",),
        meaning="a build can leave set-user-id programs where other users of the machine can start them",
        source=_GITHUB + "GHSA-q82p-44mg-mgh5",
        nix=Affected("0.0", ("2.18.4", "2.19.5", "2.20.7", "2.21.3", "2.22.2", "2.23.1", "2.24.0")),
        gives_root=False,
    ),
    Advisory(
        names=("CVE-2024-45593",),
        meaning="whoever can make the daemon unpack an archive can write anywhere as root",
        source=_GITHUB + "GHSA-h4vv-h3jq-v493",
        nix=Affected("2.24.0", ("2.24.6", "2.25.0")),
        gives_root=True,
    ),
    Advisory(
        names=("CVE-2024-47174",),
        meaning="whoever sits in the network can read the credentials that `<nix/fetchurl.nix>` sends",
        source=_GITHUB + "GHSA-6fjr-mq49-mm2c",
        nix=Affected("1.11", ("2.18.8", "2.24.8", "2.25.0")),
        gives_root=False,
    ),
    Advisory(
        names=("CVE-2025-46415", "CVE-2025-46416", "CVE-2025-52991", "CVE-2025-52992", "CVE-2025-52993"),
        meaning="whoever may build can take over the build users, delete foreign files and change the store",
        source="https://discourse.nixos.org/t/security-advisory-privilege-escalations-in-nix-lix-and-guix/66017",
        nix=Affected("0.0", ("2.24.15", "2.26.4", "2.28.4", "2.29.1", "2.30.0")),
        lix=Affected("2.90.0", ("2.91.2", "2.92.2", "2.93.1", "2.94.0")),
        gives_root=True,
    ),
    Advisory(
        names=("GHSA-qc7j-jgf3-qmhg",),
        meaning="builds run as root instead of as a build user",
        source=_GITHUB + "GHSA-qc7j-jgf3-qmhg",
        nix=Affected("2.30.0", ("2.30.1", "2.31.0")),
        gives_root=True,
        only_darwin=True,
    ),
    Advisory(
        names=("CVE-2026-39860",),
        meaning="whoever may build can overwrite any file as root, through a fixed-output derivation",
        source=_GITHUB + "GHSA-g3g9-5vj6-r3gj",
        nix=Affected("2.21.0", ("2.28.6", "2.29.3", "2.30.4", "2.31.4", "2.32.7", "2.33.4", "2.34.5", "2.35.0")),
        gives_root=True,
    ),
    Advisory(
        names=("CVE-2026-44028",),
        meaning="whoever may connect to the daemon can overflow its memory with a deeply nested archive",
        source=_GITHUB + "GHSA-vh5x-56v6-4368",
        nix=Affected("2.24.4", ("2.28.7", "2.29.4", "2.30.5", "2.31.5", "2.32.8", "2.33.6", "2.34.7", "2.35.0")),
        lix=Affected("2.93.0", ("2.93.4", "2.94.2", "2.95.2", "2.96.0")),
        gives_root=True,
    ),
)


def concerning(version: NixVersion, *, darwin: bool) -> list[Advisory]:
    """Return the advisories that concern a version by its number, the oldest first."""
    return [
        advisory
        for advisory in ADVISORIES
        if (darwin or not advisory.only_darwin) and _is_affected(version, _affected(advisory, version.flavour))
    ]


def _affected(advisory: Advisory, flavour: Flavour) -> Affected | None:
    return advisory.lix if flavour is Flavour.LIX else advisory.nix


def _is_affected(version: NixVersion, affected: Affected | None) -> bool:
    if affected is None or version.numbers < numbers_of(affected.since):
        return False
    fixed = [numbers_of(text) for text in affected.fixed]
    in_series = [numbers for numbers in fixed if numbers[:2] == version.numbers[:2]]
    return version.numbers < (in_series or [max(fixed)])[0]
