"""Who may do what: roles, actions and the one table that joins them.

What a person may not see does not exist for them: pages, API, events, metrics and search answer 404 alike.
What it does not know: how somebody proved who they are (`nixmill.web`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec


class Role(StrEnum):
    """What somebody is towards a project, weakest first. An administrator is everything everywhere."""

    STRANGER = "stranger"
    VIEWER = "viewer"
    MEMBER = "member"
    OWNER = "owner"
    ADMIN = "admin"


ROLES: Final = tuple(Role)
PROJECT_ROLES: Final = (Role.VIEWER, Role.MEMBER, Role.OWNER)
"""Those that can be given to somebody in a project."""


class Visibility(StrEnum):
    """Who may see a project."""

    PUBLIC = "public"
    """Everybody, signed in or not."""
    INTERNAL = "internal"
    """Everybody who has an account."""
    PRIVATE = "private"
    """Its viewers, members and owners."""


class Action(StrEnum):
    """What can be done, named as in the audit log."""

    SEE = "see"
    START = "start a run"
    RETRY = "retry"
    CANCEL = "cancel"
    APPROVE = "approve a commit"
    CLEAR_FAILURE = "clear a remembered failure"
    PIN = "pin"
    CHANGE_PROJECT = "change a project"
    CHANGE_MEMBERS = "change members"
    DELETE_PROJECT = "delete a project"
    SEE_HOOK_LOG = "see a hook's log"
    ADD_PROJECT = "add a project"
    SEE_ADMIN = "see administration"
    CHANGE_SERVER = "change the server"
    CHANGE_USERS = "change users"


ALLOWED_FROM: Final[Mapping[Action, Role]] = {
    Action.SEE: Role.VIEWER,
    Action.START: Role.MEMBER,
    Action.RETRY: Role.MEMBER,
    Action.CANCEL: Role.MEMBER,
    Action.APPROVE: Role.MEMBER,
    Action.CLEAR_FAILURE: Role.MEMBER,
    Action.PIN: Role.MEMBER,
    Action.SEE_HOOK_LOG: Role.MEMBER,
    Action.CHANGE_PROJECT: Role.OWNER,
    Action.CHANGE_MEMBERS: Role.OWNER,
    Action.DELETE_PROJECT: Role.OWNER,
    Action.ADD_PROJECT: Role.ADMIN,
    Action.SEE_ADMIN: Role.ADMIN,
    Action.CHANGE_SERVER: Role.ADMIN,
    Action.CHANGE_USERS: Role.ADMIN,
}
"""The weakest role that may. An administrator may let everybody with an account add projects; they then own them."""


class Scope(StrEnum):
    """What an API token may do at most; never more than its owner may."""

    READ = "read"
    RUN = "run"
    """Start, retry, cancel, approve, pin."""
    MANAGE = "manage"
    """Everything else."""


SCOPE_OF: Final[Mapping[Action, Scope]] = {
    Action.SEE: Scope.READ,
    Action.SEE_HOOK_LOG: Scope.READ,
    Action.SEE_ADMIN: Scope.READ,
    Action.START: Scope.RUN,
    Action.RETRY: Scope.RUN,
    Action.CANCEL: Scope.RUN,
    Action.APPROVE: Scope.RUN,
    Action.CLEAR_FAILURE: Scope.RUN,
    Action.PIN: Scope.RUN,
    Action.CHANGE_PROJECT: Scope.MANAGE,
    Action.CHANGE_MEMBERS: Scope.MANAGE,
    Action.DELETE_PROJECT: Scope.MANAGE,
    Action.ADD_PROJECT: Scope.MANAGE,
    Action.CHANGE_SERVER: Scope.MANAGE,
    Action.CHANGE_USERS: Scope.MANAGE,
}


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. The default is a stranger."""

    user: int | None = None
    name: str = ""
    admin: bool = False
    roles: dict[int, Role] = {}
    """Role in each project that this user was given one in, by the project's id."""
    scopes: frozenset[Scope] | None = None
    """What a token is limited to; None for a session."""
    only_project: int | None = None
    """The one project that a token is limited to."""

    @property
    def signed_in(self) -> bool:
        """Say whether this is somebody with an account."""
        return self.user is not None


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """Which projects a question may touch: for the database, so that what may not be seen is never read."""

    everything: bool = False
    internal: bool = False
    """Internal projects too, beside the public ones."""
    private: frozenset[int] = frozenset()
    """Ids of private projects that may be seen."""
    only: int | None = None
    """Nothing but this project."""


EVERYTHING: Final = Sight(everything=True)
"""For the server itself."""


def sight(viewer: Viewer) -> Sight:
    """Return what somebody may see."""
    if viewer.scopes is not None and Scope.READ not in viewer.scopes:
        return Sight(only=0)
    return Sight(
        everything=viewer.admin,
        internal=viewer.signed_in,
        private=frozenset(viewer.roles),
        only=viewer.only_project,
    )


def role_of(viewer: Viewer, project: int | None, visibility: Visibility | None) -> Role:
    """Return what somebody is towards a project; towards the server where `project` is None."""
    if viewer.only_project is not None and viewer.only_project != project:
        return Role.STRANGER
    if viewer.admin:
        return Role.ADMIN
    given = viewer.roles.get(project, Role.STRANGER) if project is not None else Role.STRANGER
    sees = visibility is Visibility.PUBLIC or (visibility is Visibility.INTERNAL and viewer.signed_in)
    return Role.VIEWER if given is Role.STRANGER and sees else given


def allowed(viewer: Viewer, action: Action, project: int | None = None, visibility: Visibility | None = None) -> bool:
    """Say whether somebody may do something, to a project or, where it is None, to the server."""
    if viewer.scopes is not None and SCOPE_OF[action] not in viewer.scopes:
        return False
    role = role_of(viewer, project, visibility)
    return ROLES.index(role) >= ROLES.index(ALLOWED_FROM[action])
