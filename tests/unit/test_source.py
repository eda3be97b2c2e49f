"""Names of projects and references to trees."""

import pytest

from nixmill.core.source import git_reference, is_plain, path_reference, project_name


@pytest.mark.parametrize(
    ("origin", "directory", "name"),
    [
        ("https://forge.example/team/tool.git", "/home/a/clone", "tool"),
        ("git@forge.example:tool.git", "/home/a/clone", "tool"),
        ("ssh://git@forge.example:22/team/tool/", "/home/a/clone", "tool"),
        ("/srv/git/tool.git", "/home/a/clone", "tool"),
        ("", "/home/a/clone", "clone"),
        ("", "/home/a/my project", "my-project"),
        ("", "/home/a/.hidden", "hidden"),
        ("", "/home/a/${x}", "x"),
        ("", "/", "project"),
        ("https://forge.example/ü/é.git", "/home/a/clone", "clone"),
    ],
)
def test_a_project_is_named_after_its_origin_or_directory(origin: str, directory: str, name: str) -> None:
    assert project_name(origin, directory) == name


def test_a_name_is_never_longer_than_a_store_path_allows() -> None:
    assert len(project_name("", "/" + "x" * 500)) == 100


@pytest.mark.parametrize("path", ["/home/a/b-c_d.e~f", "/a/b+c,d;e=f", "/a/b&c'd(e)!*$@:"])
def test_plain_paths_stand_in_references_as_they_are(path: str) -> None:
    assert is_plain(path)


@pytest.mark.parametrize("character", list(' #?%"<>[]{}|\\^`\n\tü'))
def test_other_characters_make_a_path_unfit(character: str) -> None:
    assert not is_plain(f"/a/{character}b")


def test_references_are_locked() -> None:
    assert git_reference("/a/b", "c0ffee", shallow=False) == "git+file:///a/b?rev=c0ffee"
    assert git_reference("/a/b", "c0ffee", shallow=True) == "git+file:///a/b?rev=c0ffee&shallow=1"
    assert path_reference("/a", "sha256-+/=") == "path:/a?narHash=sha256-%2B%2F%3D"
