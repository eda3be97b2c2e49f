"""The settings in docs/forges.md are read as they stand, by what reads them on a server and on Gerrit's machine."""

import re
from pathlib import Path
from typing import Final

import pytest

from nixmill.cli.gerrit import HOOKS, read_settings
from nixmill.config.projects_file import parse
from nixmill.config.server_file import read_server_settings
from nixmill.core.forge import ForgeKind
from nixmill.core.posting import CheckState
from nixmill.edge.forge import gerrit_review, gitea_statuses, github_checks, gitlab_statuses
from nixmill.edge.forge.github_app import PERMISSIONS
from nixmill.edge.forge.github_events import EVENTS
from tests.support.house import ROOT

DOCUMENT: Final = (ROOT / "docs/forges.md").read_text()
BLOCKS: Final = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
KIND: Final = re.compile(r'^kind = "(.*?)"', re.MULTILINE)
WHOLE: Final = {found[1]: block for block in BLOCKS if (found := KIND.search(block))}
_SECRET: Final = re.compile(r'"(/etc/nixmill/[^"]*secret[^"]*)"')


def written(directory: Path, text: str) -> Path:
    """Write a settings file beside the files that it names; return it."""
    for number, place in enumerate(dict.fromkeys(_SECRET.findall(text))):
        secret = directory / f"secret-{number}"
        secret.touch(mode=0o600)
        secret.write_text("dummy")
        text = text.replace(place, str(secret))
    file = directory / "settings.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def one(mark: str) -> str:
    """Return the only block that has a text in it."""
    (found,) = [block for block in BLOCKS if mark in block]
    return str(found)


def test_there_is_a_whole_file_for_each_kind_of_forge() -> None:
    assert set(WHOLE) == {kind.value for kind in ForgeKind}


@pytest.mark.parametrize("kind", sorted(kind.value for kind in ForgeKind))
def test_each_whole_file_is_read_without_a_mistake(kind: str, tmp_path: Path) -> None:
    settings = read_server_settings(written(tmp_path, WHOLE[kind]), {})
    assert [forge.kind for forge in settings.forges] == [ForgeKind(kind)]
    assert settings.forges[0].name in {kind, "forge"}


def test_all_forges_fit_into_one_file_with_sign_in(tmp_path: Path) -> None:
    tables = [block.partition("[[forge]]")[2] for block in WHOLE.values()]
    credentials = [line for block in WHOLE.values() for line in block.splitlines() if "/etc/nixmill/secrets/" in line]
    github = WHOLE["github"].partition("[[forge]]")[2]
    tables[tables.index(github)] = github + one("client-id")
    credentials.append('github-client = "/etc/nixmill/secrets/github-client"')
    text = "\n".join(['url = "https://ci.example.org"', "[credentials]", *credentials])
    settings = read_server_settings(written(tmp_path, text + "".join(f"\n[[forge]]{table}" for table in tables)), {})
    assert len(settings.forges) == len(ForgeKind)
    assert [forge.name for forge in settings.forges if forge.client_id] == ["github"]


def test_the_settings_of_gerrits_hooks_are_read(tmp_path: Path) -> None:
    found = read_settings(written(tmp_path, one("secret-file")))
    assert found.forge == read_server_settings(written(tmp_path, WHOLE["gerrit"]), {}).forges[0].name
    assert [name for name in HOOKS if name not in DOCUMENT] == []


def test_a_declared_project_names_its_forge() -> None:
    (project,) = parse(one("[[project]]"), "docs/forges.md").projects
    assert (project.project.forge, project.project.repository, project.project.drafts) == ("github", "acme/mill", False)


def test_the_permissions_and_events_of_the_app_are_those_that_are_used() -> None:
    said = {
        name.lower(): level
        for name, level in re.findall(r"^   \| ([A-Z][a-z ]+) \| (read[a-z ]*) \|", DOCUMENT, re.MULTILINE)
    }
    said["statuses"] = said.pop("commit statuses")
    said["pull_requests"] = said.pop("pull requests")
    only_to_choose_events = {"issues", "merge queues"}
    wanted = {name: "read and write" if level == "write" else level for name, level in PERMISSIONS.items()}
    assert {name: level for name, level in said.items() if name not in only_to_choose_events} == wanted
    (line,) = re.findall(r"^   Events: (.*?)\. Of", DOCUMENT, re.MULTILINE)
    assert [name.strip("*").lower().replace(" ", "_") for name in line.split(", ")] == list(EVENTS)


def test_the_table_of_statuses_is_what_is_posted() -> None:
    rows = dict(
        re.findall(
            r"^\| ([a-z ,]+) \| (`[a-z_]+` \| `[a-z]+` \| `[a-z]+` \| `[a-z]+` \|.*) \|$", DOCUMENT, re.MULTILINE
        )
    )
    names = {
        CheckState.WAITING: "waiting",
        CheckState.HELD: "waits for approval",
        CheckState.RUNNING: "running",
        CheckState.GOOD: "good",
        CheckState.FAILED: "failed",
        CheckState.TROUBLE: "our trouble",
        CheckState.CANCELLED: "cancelled, skipped",
        CheckState.SKIPPED: "cancelled, skipped",
    }
    assert set(rows) == set(names.values())
    for state, name in names.items():
        status, conclusion, old = github_checks._STATES[state]
        gitea, gitlab = gitea_statuses._STATES[state], gitlab_statuses._STATES[state]
        posted = [f"`{word}`" for word in (conclusion or status, old, gitea, gitlab)]
        *cells, gerrit = [cell.strip() for cell in rows[name].split("|")]
        assert cells == posted, name
        vote = {1: "+1", -1: "−1"}.get(gerrit_review._VOTES.get(state, 0), "0")
        assert gerrit.split(",")[0] == (vote if state in gerrit_review._TOLD else ""), name


def test_nothing_but_good_is_green() -> None:
    green = {"success"}
    for state in set(CheckState) - {CheckState.GOOD}:
        posted = {*github_checks._STATES[state], gitea_statuses._STATES[state], gitlab_statuses._STATES[state]}
        assert not posted & (green | {"neutral", "skipped", "warning"}), state
        assert gerrit_review._VOTES.get(state, 0) <= 0
