"""Which commit messages ask that nothing be run."""

import pytest

from nixmill.core.skip_marker import skips

SKIPPED = {
    "docs [skip ci]": "[skip ci]",
    "[ci skip] docs": "[ci skip]",
    "docs\n\nbody [no ci] more": "[no ci]",
    "[SKIP CI] loud": "[skip ci]",
    "[Skip Nixmill]": "[skip nixmill]",
    "a\n\n\n[nixmill skip]\n": "[nixmill skip]",
    "x[skip ci]y": "[skip ci]",
    "[ci skip] and [no ci]": "[ci skip]",
    "docs\n\n\nskip-checks: true": "skip-checks: true",
    "docs\n\n\nskip-checks:true\n": "skip-checks: true",
    "docs\r\n\r\n\r\nSkip-Checks: True\r\n": "skip-checks: true",
    "docs\n\nbody\n\n\nSigned-off-by: Ada <a@x>\n  at home\nskip-checks: true\n\n": "skip-checks: true",
}
RUN = (
    "",
    "\n\n\n",
    "docs",
    "skip ci",
    "[skip  ci]",
    "[skip\nci]",
    "[skipci]",
    "[skip ci please]",
    "[ſkip ci]",  # a long s is no s
    "[s\u212aip ci]",  # nor is the sign of the kelvin a k
    "[skip actions]",  # means GitHub's own runs
    "skip-checks: true",  # a subject, no trailer
    "docs\n\nskip-checks: true",  # one empty line
    "docs\n\n\nskip-checks: true\nReviewed-by: Bob",  # not the last one
    "docs\n\n\nskip-checks: true\n\n\nmore text",
    "docs\n\n\nskip-checks: false",
    "docs\n\n\nskip-checks: true, please",
    "docs\n\n\nit says\nskip-checks: true",  # the paragraph is prose
)


@pytest.mark.parametrize(("message", "marker"), SKIPPED.items())
def test_a_message_that_asks_to_be_skipped(message: str, marker: str) -> None:
    assert skips(message) == marker


@pytest.mark.parametrize("message", RUN)
def test_a_message_that_does_not(message: str) -> None:
    assert skips(message) is None


def test_a_long_message_is_read_quickly() -> None:
    assert skips("[skip " * 100_000 + "\n" * 100_000 + "a:" * 100_000) is None
