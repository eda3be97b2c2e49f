"""The server's settings, as the rest of the program sees them: one frozen value, validated, units in the names.

Read from a TOML file by `nixmill.config.server_file`, which reports all mistakes at once. What grants power stands
here or is set by people with the right to do so, never in a repository.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from nixmill.core.hook import Hook


class OidcProvider(msgspec.Struct, frozen=True, kw_only=True):
    """Somewhere else to sign in (OpenID Connect with discovery)."""

    name: str
    """Part of the callback's address: `/sign-in/NAME/callback`."""
    title: str
    issuer: str
    client_id: str
    client_secret: str
    """Name of a credential."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    admins: tuple[str, ...] = ()
    """Subjects that are administrators."""
    sign_up: bool = True
    """Whether somebody new gets an account."""


class SmtpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How e-mail leaves."""

    host: str
    port: int = 587
    security: str = "starttls"
    """`starttls`, `tls` or `none`."""
    user: str = ""
    password: str = ""
    """Name of a credential."""
    sender: str = "nixmill@localhost"


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept, in days; 0 means for ever. The newest `runs` of each branch stay in any case."""

    runs: int = 20
    run_days: int = 180
    log_days: int = 90
    audit_days: int = 730


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `nixmill serve` is told."""

    url: str = "http://127.0.0.1:8484"
    """The address people use, without a slash at its end: links and cookies follow from it."""
    listen: str = "127.0.0.1:8484"
    """`HOST:PORT`, or `unix:/path/to/socket`."""
    state: Path = Path("/var/lib/nixmill")
    database: str = ""
    """`postgresql://…`, without a password; empty: SQLite in `state`."""
    database_password: str = ""
    """Name of a credential."""
    credentials: Mapping[str, Path] = {}
    """Secrets by name: files that only the server can read. Secrets stand nowhere else."""
    oidc: tuple[OidcProvider, ...] = ()
    smtp: SmtpSettings | None = None
    hooks: tuple[Hook, ...] = ()
    hooks_at_once: int = 4
    runs_at_once: int = 4
    store: str = "auto"
    builders: str | None = None
    evaluator: str = "auto"
    users_add_projects: bool = False
    """Whether everybody with an account may add projects, which they then own."""
    insecure_git: bool = False
    """Whether `http://` and `git://` repositories are fetched."""
    local_git: bool = True
    """Whether `file://` repositories are fetched; only administrators may add them."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    sign_in_tries: int = 10
    """Failed sign-ins of one account or address in 15 minutes, after which it has to wait."""
    projects_file: Path | None = None
    """Projects declared in a file (`nixmill projects export` writes one)."""
    retention: Retention = Retention()
    body_bytes: int = 1024 * 1024
    """Largest body of a request."""
