"""How the sentence of a verdict names several attributes."""

import pytest

from nixmill.core.verdict_sentence import _below


@pytest.mark.parametrize(
    ("names", "parent", "rest"),
    [
        (["checks.x86_64-linux.a", "checks.x86_64-linux.b"], "checks.x86_64-linux", ["a", "b"]),
        (["checks.a", "packages.a"], "", ["checks.a", "packages.a"]),
        (['checks."a.b"', "checks.c"], "", ['checks."a.b"', "checks.c"]),
        (["a", "b"], "", ["a", "b"]),
    ],
)
def test_what_names_have_in_common_is_said_once(names: list[str], parent: str, rest: list[str]) -> None:
    assert _below(names) == (parent, rest)
