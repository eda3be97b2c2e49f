"""Versions of Nix and of its relatives, as `nix --version` prints them.

Source: seen output of Nix 2.8 to 2.34, Lix 2.9x and Determinate Nix 3. Lix counts on from Nix 2.18 at 2.90;
Determinate Nix prints the version of Nix it is made from last. What this file does not know: which are too old.
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

_PRINTED: Final = re.compile(r"nix \((?P<brand>[^)]*)\) (?P<text>(?P<numbers>\d+\.\d+(?:\.\d+)?)\S*)")


class Flavour(StrEnum):
    """Who makes it. Advisories and version numbers differ."""

    NIX = "Nix"
    LIX = "Lix"
    DETERMINATE = "Determinate Nix"


class NixVersion(msgspec.Struct, frozen=True):
    """A version. `numbers` has three parts; of a pre-release it is the release it will become."""

    flavour: Flavour
    numbers: tuple[int, int, int]
    text: str
    """The whole of it, such as `2.35.0pre20251101_abcdef`."""
    brand: str = ""
    """What stands in parentheses, such as `Determinate Nix 3.11.1`."""

    def __str__(self) -> str:
        """Return the name and version for people."""
        return f"{self.flavour} {self.text}"


class NixVersionError(ValueError):
    """The text is not what any known Nix prints."""


def parse_version(printed: str) -> NixVersion:
    """Return the version from the output of `nix --version`; raise `NixVersionError` where there is none."""
    found = _PRINTED.match(printed.strip())
    if found is None:
        raise NixVersionError(f"{printed.strip()[:80]!r} is not a version as Nix prints it.")
    brand = found["brand"]
    return NixVersion(_flavour(brand), numbers_of(found["numbers"]), found["text"], brand)


def numbers_of(text: str) -> tuple[int, int, int]:
    """Return the numbers of `2.34.8`, or of `2.34` as those of `2.34.0`."""
    major, minor, patch = [*map(int, text.split(".")), 0][:3]
    return major, minor, patch


def _flavour(brand: str) -> Flavour:
    if brand.startswith("Lix"):
        return Flavour.LIX
    return Flavour.DETERMINATE if "Determinate" in brand else Flavour.NIX
