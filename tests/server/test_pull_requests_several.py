"""Several forges at once, and a repository that belongs to none: each status goes to the right one."""

import contextlib
from pathlib import Path

from tests.contract.forge_world import Colour, Trouble, Where
from tests.support.program import flake, job
from tests.support.pull_server import Pulls, checkout_of, gitea_beside, github_beside, made_server, settings_of
from tests.support.scratch_store import ScratchStore

PLAIN = """
[[project]]
name = "plain"
url = "file://{top}"
visibility = "public"
"""


async def test_each_status_goes_to_its_own_forge(tmp_path: Path, fresh_store: ScratchStore) -> None:
    async with contextlib.AsyncExitStack() as stack:
        github = await stack.enter_async_context(github_beside(tmp_path, "hub"))
        gitea = await stack.enter_async_context(gitea_beside(tmp_path, "tea"))
        (tmp_path / "projects.toml").write_text(PLAIN.format(top=tmp_path / "mill"))
        settings = f'projects-file = "{tmp_path}/projects.toml"\n' + settings_of([github, gitea])
        project = checkout_of(tmp_path, fresh_store)
        project.commit(flake__nix=flake(hello=job("hello")))
        with made_server(tmp_path, project, settings) as server:
            ours = Pulls(server, github.hub, project, "hub")
            theirs = Pulls(server, gitea.hub, project, "tea")
            server.start()
            await server.ready()
            for number in (1, 2, 3):
                page = await server.ended(number)
                assert page["run"]["verdict"] == "passed", f"{page}\n{server.log}"
            await _both(ours, theirs)


async def _both(ours: Pulls, theirs: Pulls) -> None:  # type: ignore[type-arg]
    """One number on two forges, one of them away for a while."""
    first = ours.open("mia", Where.SAME, a__txt="on GitHub")
    first_head = ours.hub.head(first)
    await ours.told(first)
    await ours.until(first_head, Colour.GREEN)
    theirs.hub.trouble(Trouble.OUTAGE)
    second = theirs.open("mia", Where.SAME, b__txt="on Gitea")
    second_head = theirs.hub.head(second)
    assert first == second, "two pull requests have one number"
    await theirs.told(second)
    third = ours.push(first, c__txt="meanwhile")
    await ours.told(first)
    await ours.until(third, Colour.GREEN)
    theirs.hub.trouble(Trouble.NONE)
    await theirs.until(second_head, Colour.GREEN)
    assert theirs.hub.shown(first_head) == theirs.hub.shown(third) == []
    assert ours.hub.shown(second_head) == []
