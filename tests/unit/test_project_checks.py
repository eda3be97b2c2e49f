"""What a project may be, and what only administrators may choose."""

from pathlib import Path

import msgspec
import pytest

from nixmill.config.server import ServerSettings
from nixmill.core.errors import InputError
from nixmill.core.project import Jobset, Project
from nixmill.engine.project_checks import check_jobsets, check_project, credentials, for_administrators, schemes

SETTINGS = ServerSettings(credentials={"git-a": Path("/a"), "git-b": Path("/b"), "database": Path("/c")})
PROJECT = Project(id=1, name="mill", url="https://example.org/mill.git", credential="git-a")


def test_only_credentials_for_repositories_can_be_chosen() -> None:
    assert credentials(SETTINGS) == ["git-a", "git-b"]
    for name in ("database", "git-absent"):
        with pytest.raises(InputError, match="credential"):
            check_project(SETTINGS, msgspec.structs.replace(PROJECT, credential=name))


def test_a_credential_that_the_administrators_file_gave_may_stay() -> None:
    given = msgspec.structs.replace(PROJECT, credential="database")
    check_project(SETTINGS, msgspec.structs.replace(given, weight=2), given)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ServerSettings(), ["https", "ssh", "file"]),
        (ServerSettings(local_git=False), ["https", "ssh"]),
        (ServerSettings(insecure_git=True), ["https", "ssh", "file", "http", "git"]),
    ],
)
def test_how_repositories_are_fetched_is_a_setting(settings: ServerSettings, expected: list[str]) -> None:
    assert schemes(settings) == expected


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"title": "The mill", "credential": "git-a"}, set()),
        ({"credential": ""}, set()),
        ({"credential": "git-b"}, {"credential"}),
        ({"url": "https://evil.example/mill.git"}, {"url"}),
        ({"url": "https://evil.example/mill.git", "credential": ""}, set()),
        ({"url": "FILE:///etc", "credential": ""}, {"url"}),
        ({"weight": 100}, {"weight"}),
        ({"weight": 1}, set()),
    ],
)
def test_what_only_administrators_change(change: dict[str, str], fields: set[str]) -> None:
    assert set(for_administrators(PROJECT, msgspec.structs.replace(PROJECT, **change))) == fields


def test_what_only_administrators_add() -> None:
    assert set(for_administrators(None, PROJECT)) == {"credential"}
    assert set(for_administrators(None, Project(name="a", url="file:///srv/a"))) == {"url"}
    assert for_administrators(None, Project(name="a", url="git@example.org:a.git")) == {}


@pytest.mark.parametrize(
    "jobsets",
    [
        [Jobset(name="a"), Jobset(name="a")],
        [Jobset(name="9")],
        [Jobset(name="a", schedule="often")],
        [Jobset(name="a", time_zone="Moon/Crater")],
        [Jobset(name=f"a{number}") for number in range(101)],
    ],
)
def test_jobsets_that_cannot_be(jobsets: list[Jobset]) -> None:
    with pytest.raises(InputError):
        check_jobsets(jobsets)
