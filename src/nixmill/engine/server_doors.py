"""Everything outside that the server touches, joined once by `nixmill.app`."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from nixmill.config.server import ServerSettings
from nixmill.core.machine import Machine
from nixmill.core.message import ChannelKind
from nixmill.doors import Archive, Clock, History, Logs, Source
from nixmill.doors.cache import Uploads
from nixmill.doors.forge import AnyForge, Inbox, Merging, PullPages, PullRequests, Statuses
from nixmill.doors.pages import AdminPages, BuildPages, ProjectPages, RunPages
from nixmill.doors.roots import PinBook
from nixmill.doors.server import (
    Accounts,
    Changes,
    Courier,
    Durable,
    Failures,
    HookRunner,
    Members,
    Outbox,
    Past,
    Projects,
    Refs,
    Remote,
    Story,
)
from nixmill.engine.live import Live
from nixmill.engine.request import RunDoors
from nixmill.engine.store_side import StoreSide
from nixmill.nix.store_path import StorePath


class OpenRun(Protocol):
    """Opens what one run needs; what it leased is free again when it closes."""

    def __call__(
        self, notice: Callable[[str], None], *, guarded: bool = False, readable: Collection[StorePath] = ()
    ) -> AbstractAsyncContextManager[RunDoors]:
        """Tell sentences to `notice`; with `guarded` evaluate in the sandbox, where `readable` may be found valid.

        `NotAllowedError` where this machine has none, with the reason.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerDoors:
    """The doors of the server."""

    settings: ServerSettings
    clock: Clock
    random: Random
    projects: Projects
    refs: Refs
    changes: Changes
    failures: Failures
    accounts: Accounts
    members: Members
    outbox: Outbox
    story: Story
    past: Past
    history: History
    archive: Archive
    project_pages: ProjectPages
    run_pages: RunPages
    build_pages: BuildPages
    admin_pages: AdminPages
    logs: Logs
    remote: Remote
    merging: Merging
    """The same mirrors, for pull requests."""
    forges: Mapping[str, AnyForge]
    """By the names in the settings."""
    pulls: PullRequests
    inbox: Inbox
    statuses: Statuses
    pull_pages: PullPages
    store_side: StoreSide
    pins: PinBook
    uploads: Uploads
    source: Source
    """Trees of the mirrors that `remote` keeps."""
    hook_runner: HookRunner
    couriers: Mapping[ChannelKind, Courier]
    durable: Durable
    live: Live
    open_run: OpenRun
    machines: Sequence[Machine]
    store_dir: Path
    disk: Callable[[Path], tuple[int, int]]
    """Bytes used and free where a path is."""
    trim: Callable[[], None]
    """Gives memory back that is not used now; takes a moment."""
    webhook_key: bytes
    """From which the secret of each project's webhook is derived; from a file only the server can read."""
    sweep: Callable[[], Awaitable[bool]]
    """Deletes a batch of what belongs to deleted projects; says whether there is more."""
    tidy: Callable[[], Awaitable[None]]
    """Deletes what is older than the settings keep: logs, the audit log, sent messages, what expired."""
