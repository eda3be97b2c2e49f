"""A web world with a project of a forge and pull requests of it, some of which try to do harm."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from nixmill.config.forges import ForgeSettings
from nixmill.config.server import ServerSettings
from nixmill.core.access import Role, Visibility
from nixmill.core.forge import ForgeKind
from nixmill.core.merged import ChangedFile, FileChange, Patch
from nixmill.core.project import Project
from nixmill.core.view.pulls import ToApprove
from tests.fakes.forge import FakeForge
from tests.support.forge_things import a_pull, a_pull_change
from tests.support.web import WebWorld, web_world

HOSTILE: Final = "<script>window.broken=1</script>\u202egnp.exe\x1b[31m"
HEAD: Final = "c7" * 20
BASE: Final = "b0" * 20
_PATCH: Final = f"""diff --git a/flake.nix b/flake.nix
index 1f3a9c2..77e0b1d 100644
--- a/flake.nix
+++ b/flake.nix
@@ -1,4 +1,4 @@
 {{
-  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
+  inputs.nixpkgs.url = "github:{HOSTILE}/nixpkgs";
   outputs = _: {{ }};
 }}
"""
LOOK: Final = ToApprove(
    commit=HEAD,
    since=BASE,
    since_approval=False,
    commits=2,
    files=(
        ChangedFile(path="flake.nix", kind=FileChange.CHANGED, added=1, removed=1),
        ChangedFile(path="pkgs/fetch.nix", kind=FileChange.ADDED, added=24),
        ChangedFile(path="logo.png", kind=FileChange.ADDED, binary=True),
        ChangedFile(path=HOSTILE, kind=FileChange.RENAMED, old_path=HOSTILE),
    ),
    files_more=4,
    sensitive=(Patch(path="flake.nix", text=_PATCH),),
    fixed_outputs=(f'pkgs/fetch.nix: +  hash = "sha256-{HOSTILE}";',),
)


@contextlib.asynccontextmanager
async def pulls_world() -> AsyncIterator[WebWorld]:
    """Run the application with a forge, and people of every kind."""
    forge = ForgeSettings(name="forge", kind=ForgeKind.GITEA, url="https://forge.example")
    async with web_world(ServerSettings(forges=(forge,)), forges={"forge": FakeForge()}) as made:
        for name in ("member", "viewer", "owner"):
            await made.user(name)
        yield made


async def joined(world: WebWorld, visibility: Visibility = Visibility.PUBLIC, name: str = "mill") -> Project:
    """Return a project of the forge with a member and a viewer."""
    made = await world.project(name, visibility, member=Role.MEMBER, viewer=Role.VIEWER)
    return await world.site.projects.save_project(
        msgspec.structs.replace(made, forge="forge", repository=f"octo/{name}")
    )


async def held_pull(world: WebWorld, project: Project, number: int = 7, **fields: Any) -> int:  # noqa: ANN401 - of a pull request
    """Record a stranger's pull request that waits for approval; return the number of its run."""
    held = a_pull_change(project.id, number, commit=HEAD)
    return (await world.site.pulls.saw(project.id, a_pull(number, head_commit=HEAD, **fields), [held]))[0]


async def hostile_pull(world: WebWorld, project: Project) -> int:
    """Record one whose author writes markup and what turns text round wherever that is possible."""
    return await held_pull(
        world, project, title=f"Grind finer {HOSTILE}", labels=("topic: mill", HOSTILE), head_ref=HOSTILE
    )
