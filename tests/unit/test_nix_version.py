"""Versions as Nix and its relatives print them."""

import pytest

from nixmill.nix.version import Flavour, NixVersionError, parse_version


@pytest.mark.parametrize(
    ("printed", "flavour", "numbers", "shown"),
    [
        ("nix (Nix) 2.8.0\n", Flavour.NIX, (2, 8, 0), "Nix 2.8.0"),
        ("nix (Nix) 2.34.8", Flavour.NIX, (2, 34, 8), "Nix 2.34.8"),
        ("nix (Nix) 2.4", Flavour.NIX, (2, 4, 0), "Nix 2.4"),
        ("nix (Nix) 2.35.0pre20261101_abcdef0", Flavour.NIX, (2, 35, 0), "Nix 2.35.0pre20261101_abcdef0"),
        ("nix (Lix, like Nix) 2.93.3", Flavour.LIX, (2, 93, 3), "Lix 2.93.3"),
        (
            "nix (Lix, like Nix) 2.95.0-dev-pre20260101-0000000",
            Flavour.LIX,
            (2, 95, 0),
            "Lix 2.95.0-dev-pre20260101-0000000",
        ),
        ("nix (Determinate Nix 3.11.1) 2.31.1", Flavour.DETERMINATE, (2, 31, 1), "Determinate Nix 2.31.1"),
    ],
)
def test_versions_are_understood(printed: str, flavour: Flavour, numbers: tuple[int, int, int], shown: str) -> None:
    version = parse_version(printed)
    assert (version.flavour, version.numbers, str(version)) == (flavour, numbers, shown)


@pytest.mark.parametrize("printed", ["", "nix", "nix (Nix)", "nix (Nix) two", "git version 2.39.5", "nix (Nix) 2"])
def test_what_is_no_version_is_refused(printed: str) -> None:
    with pytest.raises(NixVersionError):
        parse_version(printed)
