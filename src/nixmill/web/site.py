"""Everything the web works with, joined once by `nixmill.app`."""

from collections.abc import Mapping
from dataclasses import dataclass

from nixmill.config.server import ServerSettings
from nixmill.doors import Clock, Logs
from nixmill.doors.forge import AnyForge, PullPages, PullRequests
from nixmill.doors.pages import AdminPages, BuildPages, ProjectPages, RunPages
from nixmill.doors.server import Accounts, Changes, Failures, HookRunner, Keys, Members, Outbox, Projects
from nixmill.engine.live import Live
from nixmill.engine.office import Office
from nixmill.engine.office_roots import CacheDesk, RootDesk
from nixmill.nix.store_path import DEFAULT_STORE_DIR


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The doors and the office."""

    settings: ServerSettings
    store_dir: str = DEFAULT_STORE_DIR
    """Where store paths are: part of a derivation's address."""
    clock: Clock
    office: Office
    live: Live
    projects: Projects
    changes: Changes
    failures: Failures
    accounts: Accounts
    keys: Keys
    members: Members
    outbox: Outbox
    project_pages: ProjectPages
    run_pages: RunPages
    build_pages: BuildPages
    admin_pages: AdminPages
    pulls: PullRequests
    pull_pages: PullPages
    forges: Mapping[str, AnyForge]
    """By the names in the settings."""
    logs: Logs
    hook_runner: HookRunner
    root_desk: RootDesk
    cache_desk: CacheDesk
