"""Forges, as the server's settings name them: one `[[forge]]` table each."""

from typing import Final

import msgspec

from nixmill.core.forge import ForgeKind

STATUS_NAME: Final = "nixmill"


class ForgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A forge whose pull requests are checked."""

    name: str
    """In addresses (`/hook/forge/NAME`) and in projects; never changed once projects use it."""
    kind: ForgeKind
    """`github`, `gitea` (Forgejo too), `gitlab` or `gerrit`."""
    url: str
    """Where people reach it: `https://github.com`."""
    api_url: str = ""
    """Where its API is; empty: what is usual for its kind below `url`."""
    status_name: str = STATUS_NAME
    """What the required check is called there: keep a former system's, and branch protection goes on working."""
    token: str = ""
    """Name of a credential: an access token (Gitea, GitLab) or an HTTP password (Gerrit)."""
    user: str = ""
    """Gerrit: the user of the HTTP password and of ssh."""
    app_id: int = 0
    """GitHub: the number of the App."""
    private_key: str = ""
    """GitHub: name of a credential, the App's private key in PEM. Gerrit: the ssh key for its stream of events."""
    webhook_secrets: tuple[str, ...] = ()
    """Names of credentials; each of them is accepted, the first one is given to new hooks."""
    create_hooks: bool = True
    """Whether hooks of repositories are made and mended (Gitea, GitLab); a GitHub App has one for all."""
    topic: str = ""
    """Of the repositories that `owners` or `repositories` choose only those with this topic; empty: all of them."""
    owners: tuple[str, ...] = ()
    """Globs of users and organisations whose repositories become projects by themselves."""
    repositories: tuple[str, ...] = ()
    """Globs of paths of repositories that become projects by themselves. Without owners and these none do."""
    client_id: str = ""
    """OAuth: lets people sign in with their account there. Empty: no sign-in."""
    client_secret: str = ""
    """Name of a credential."""
    sign_up: bool = True
    """Whether somebody new gets an account by signing in."""
    admins: tuple[str, ...] = ()
    """Ids (not names) of its users that are administrators of this server."""
    groups: tuple[str, ...] = ()
    """Gerrit: names of groups whose members count as those who may write."""
    label: str = "Verified"
    """Gerrit: the label that is voted on."""
    stream: str = ""
    """Gerrit: `HOST:PORT` of its ssh server, for its stream of events; empty: hooks only."""
    reconcile_s: int = 600
    """Seconds between two times that the forge is asked what was missed."""
    reports: bool = True
    """Whether statuses are posted."""
