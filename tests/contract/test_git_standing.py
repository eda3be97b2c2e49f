"""Where a checkout stands: real git, no remote is asked."""

from pathlib import Path

import pytest

from nixmill.core.errors import InputError
from nixmill.edge.git_standing import standing
from tests.support.git_repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "here")
    made.commit("one", a__txt="1\n")
    return made


async def test_a_commit_that_no_remote_has(repository: Repository) -> None:
    found = await standing(str(repository.top))
    assert (found.remotes, found.on, found.dirty) == ((), (), False)
    assert found.commit == repository.git("rev-parse", "HEAD")


async def test_the_branch_that_is_followed_comes_first_and_head_never(repository: Repository) -> None:
    repository.git("remote", "add", "zeta", "https://z.example.org/x.git")
    repository.git("remote", "add", "origin", "https://example.org/x.git")
    for ref in ("origin/main", "zeta/topic", "origin/a"):
        repository.git("update-ref", f"refs/remotes/{ref}", "HEAD")
    repository.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    repository.git("branch", "--set-upstream-to=zeta/topic")
    found = await standing(str(repository.top))
    assert found.remotes[0] == ("origin", "https://example.org/x.git")
    assert found.on == ("zeta/topic", "origin/a", "origin/main")
    repository.commit("two", a__txt="2\n")
    assert (await standing(str(repository.top))).on == ()


async def test_changes_and_a_detached_head(repository: Repository) -> None:
    (repository.top / "a.txt").write_text("other\n")
    (repository.top / "untracked").touch()
    repository.git("checkout", "--quiet", "--detach")
    found = await standing(str(repository.top))
    assert found.dirty
    assert found.branch == ""


async def test_no_checkout_and_no_commit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no git checkout"):
        await standing(str(tmp_path))
