"""Patches and quantities from strangers, as pages write them."""

import pytest

from nixmill.web import urls
from nixmill.web.forge_choice import is_address_of
from nixmill.web.patches import patch
from nixmill.web.writing import grown


def test_a_patch_is_escaped_line_by_line_and_coloured_by_its_signs() -> None:
    text = str(patch("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-<b>\n+\u202e&\x1b[31m\n same\n", 100))
    assert '<span class="removed">-&lt;b&gt;</span>' in text
    assert '<span class="added">+&amp;</span>' in text
    assert '<span class="dim">--- a/x</span>' in text
    assert "\n same</pre>" in text


def test_what_is_cut_off_a_patch_is_counted() -> None:
    assert "… 7 more lines" in str(patch("+x\n" * 10, 3))
    assert "more lines" not in str(patch("+x\n" * 10, 10))


@pytest.mark.parametrize(
    ("difference", "said"),
    [(None, ""), (0, ""), (5_000_000, "+"), (-5_000_000, "−")],
    ids=["unknown", "0", "up", "down"],
)
def test_growth_has_a_sign(difference: int | None, said: str) -> None:
    shown = str(grown(difference))
    assert (f">{said}" in shown) if said else shown == ""


@pytest.mark.parametrize("address", ["javascript:alert(1)", "JAVASCRIPT:x", "data:,x", "//x", "/p", "ftp://x", ""])
def test_only_the_web_is_linked(address: str) -> None:
    assert urls.outside(address) == ""


@pytest.mark.parametrize(
    ("url", "is_it"),
    [
        ("https://forge.example/octo/mill.git", True),
        ("https://forge.example/octo/mill", True),
        ("https://FORGE.example/Octo/Mill/", True),
        ("https://forge.example/octo/other.git", False),
        ("https://forge.example.evil/octo/mill.git", False),
        ("https://evil.example/octo/mill.git", False),
        ("https://user@forge.example/octo/mill.git", False),
        ("https://forge.example:8443/octo/mill.git", False),
        ("http://forge.example/octo/mill.git", False),
        ("git@forge.example:octo/mill.git", False),
        ("https://forge.example/x/octo/mill.git", False),
    ],
)
def test_a_token_of_a_forge_goes_to_that_repository_alone(url: str, *, is_it: bool) -> None:
    assert is_address_of(url, "https://forge.example/", "octo/mill") is is_it


def test_a_forge_may_stand_below_a_path() -> None:
    assert is_address_of("https://example.org/git/octo/mill.git", "https://example.org/git", "octo/mill")
