"""Which advisories concern which version."""

import pytest

from nixmill.core.advisories import ADVISORIES, concerning
from nixmill.nix.version import Flavour, NixVersion, numbers_of


def _names(text: str, flavour: Flavour = Flavour.NIX, *, darwin: bool = False) -> set[str]:
    version = NixVersion(flavour, numbers_of(text), text)
    return {advisory.names[0] for advisory in concerning(version, darwin=darwin)}


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("2.8.0", {"CVE-2024-27297", "CVE-2024-38531", "CVE-2024-47174", "CVE-2025-46415"}),
        ("2.18.1", {"CVE-2024-27297", "CVE-2024-38531", "CVE-2024-47174", "CVE-2025-46415"}),
        ("2.18.2", {"CVE-2024-38531", "CVE-2024-47174", "CVE-2025-46415"}),
        ("2.20.5", {"CVE-2024-38531", "CVE-2024-47174", "CVE-2025-46415"}),
        ("2.24.5", {"CVE-2024-45593", "CVE-2024-47174", "CVE-2025-46415", "CVE-2026-39860", "CVE-2026-44028"}),
        ("2.24.3", {"CVE-2024-45593", "CVE-2024-47174", "CVE-2025-46415", "CVE-2026-39860"}),
        ("2.26.3", {"CVE-2025-46415", "CVE-2026-39860", "CVE-2026-44028"}),
        ("2.26.4", {"CVE-2026-39860", "CVE-2026-44028"}),
        ("2.28.6", {"CVE-2026-44028"}),
        ("2.28.7", set()),
        ("2.34.4", {"CVE-2026-39860", "CVE-2026-44028"}),
        ("2.34.5", {"CVE-2026-44028"}),
        ("2.34.8", set()),
        ("2.35.0", set()),
        ("2.40.0", set()),
        ("3.0.0", set()),
    ],
)
def test_versions_of_nix(version: str, names: set[str]) -> None:
    assert _names(version) == names


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("2.90.0", {"CVE-2025-46415"}),
        ("2.91.2", set()),
        ("2.93.0", {"CVE-2025-46415", "CVE-2026-44028"}),
        ("2.93.1", {"CVE-2026-44028"}),
        ("2.93.4", set()),
        ("2.95.1", {"CVE-2026-44028"}),
        ("2.96.0", set()),
    ],
)
def test_versions_of_lix_have_advisories_of_their_own(version: str, names: set[str]) -> None:
    assert _names(version, Flavour.LIX) == names


def test_determinate_nix_counts_as_the_nix_it_is_made_from() -> None:
    assert _names("2.34.4", Flavour.DETERMINATE) == _names("2.34.4")


def test_an_advisory_for_darwin_concerns_darwin_only() -> None:
    assert _names("2.30.0", darwin=True) - _names("2.30.0") == {"GHSA-qc7j-jgf3-qmhg"}
    assert "GHSA-qc7j-jgf3-qmhg" not in _names("2.30.1", darwin=True)


def test_every_advisory_says_where_it_is_from_and_what_it_means() -> None:
    for advisory in ADVISORIES:
        assert advisory.source.startswith("https://")
        assert advisory.meaning[0].islower()
        assert not advisory.meaning.endswith(".")
        assert advisory.nix or advisory.lix
