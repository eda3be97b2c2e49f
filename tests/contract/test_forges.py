"""The suite of `forge_suite`, held by the fake in memory and by the edge to GitHub."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.forge_suite import ForgeSuite
from tests.contract.forge_world import ForgeWorld
from tests.fakes.forge import FakeForge
from tests.support.github_server import GitHub, serving
from tests.support.github_world import GitHubWorld


class TestFake(ForgeSuite):
    @pytest.fixture
    def world(self) -> ForgeWorld:
        return FakeForge()


class TestGitHub(ForgeSuite):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[GitHubWorld]:
        with serving(GitHub()) as hub:
            world = GitHubWorld(hub, tmp_path)
            yield world
            await world.forge.aclose()
            assert hub.faults == []
