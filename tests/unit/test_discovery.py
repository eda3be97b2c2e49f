"""Which repositories become projects by themselves, and their names."""

import msgspec
import pytest

from nixmill.core.discovery import free_name, is_chosen
from nixmill.core.forge import Repository
from nixmill.core.project import check_name

MILL = Repository(
    id="1",
    path="Acme/mill",
    owner="Acme",
    clone_url="https://forge.example/Acme/mill.git",
    default_branch="main",
    private=False,
    topics=("Nix",),
)


@pytest.mark.parametrize(
    ("topic", "owners", "repositories", "chosen"),
    [
        ("", (), (), False),
        ("nix", (), (), False),
        ("nix", ("*",), (), True),
        ("", ("acme",), (), True),
        ("rust", ("acme",), (), False),
        ("", ("other",), ("acme/m*",), True),
        ("", ("*", "!acme"), (), False),
        ("", ("acm",), (), False),
    ],
)
def test_lists_choose_and_a_topic_narrows(
    topic: str,
    owners: tuple[str, ...],
    repositories: tuple[str, ...],
    chosen: bool,  # noqa: FBT001 - a row of the table
) -> None:
    assert is_chosen(topic, owners, repositories, MILL) is chosen


def test_what_is_archived_is_left_alone() -> None:
    assert not is_chosen("", ("*",), (), msgspec.structs.replace(MILL, archived=True))


@pytest.mark.parametrize(
    ("path", "taken", "name"),
    [
        ("acme/mill", [], "mill"),
        ("acme/mill", ["Mill"], "acme-mill"),
        ("acme/mill", ["mill", "acme-mill"], "acme-mill-2"),
        ("group/sub/mill", ["mill"], "group-sub-mill"),
        ("acme/.github", [], "github"),
        ("acme/9p", [], "p-9p"),
        ("acme/new", [], "acme-new"),
        ("acme/ünïcode\u202e", [], "n-code"),
        ("acme/" + "x" * 200, [], "x" * 60),
        ("acme/---", [], "project"),
    ],
)
def test_names_are_short_free_and_allowed(path: str, taken: list[str], name: str) -> None:
    found = free_name(path, taken)
    assert found == name
    assert check_name(found) == found
