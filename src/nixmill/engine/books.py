"""The books of a server: what its command line works on without the server's help."""

from dataclasses import dataclass

from nixmill.doors.server import Accounts, Members, Outbox, Projects


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the server keeps of projects and people."""

    projects: Projects
    accounts: Accounts
    members: Members
    outbox: Outbox
