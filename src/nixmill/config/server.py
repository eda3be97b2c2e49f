"""The server's settings, as the rest of the program sees them: one frozen value, validated, units in the names.

Read from a TOML file by `nixmill.config.server_file`, which reports all mistakes at once. What grants power stands
here or is set by people with the right to do so, never in a repository.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from nixmill.config.caches import CacheSettings
from nixmill.config.forges import ForgeSettings
from nixmill.config.roots import RootSettings
from nixmill.core.hook import Hook


class OidcProvider(msgspec.Struct, frozen=True, kw_only=True):
    """Somewhere else to sign in (OpenID Connect with discovery)."""

    name: str
    """Part of the callback's address: `/sign-in/NAME/callback`."""
    title: str
    """What stands on the button."""
    issuer: str
    """Its URL, below which its discovery document is."""
    client_id: str
    """What the provider calls this server."""
    client_secret: str
    """Name of a credential."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    """What is asked for."""
    admins: tuple[str, ...] = ()
    """Subjects that are administrators."""
    sign_up: bool = True
    """Whether somebody new gets an account."""


class SmtpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How e-mail leaves."""

    host: str
    """The mail server."""
    port: int = 587
    """Usually 587 for `starttls`, 465 for `tls`."""
    security: str = "starttls"
    """`starttls`, `tls` or `none`."""
    user: str = ""
    """Empty: no sign-in."""
    password: str = ""
    """Name of a credential."""
    sender: str = "nixmill@localhost"
    """The address in `From`."""


class MatrixSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where messages to Matrix rooms are handed in. Rules name rooms only, so that no token goes anywhere else."""

    homeserver: str
    """URL of the client-server API, such as `https://matrix.example.org`."""
    token: str = ""
    """Name of a credential: the access token used where a rule names none."""


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept, in days; 0 means for ever. The newest `runs` of each branch stay in any case."""

    runs: int = 20
    """Newest runs kept of each branch."""
    run_days: int = 180
    """Of runs with what is known of them."""
    log_days: int = 90
    """Of logs."""
    audit_days: int = 730
    """Of the audit log."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds work on a server: where a repository says nothing, and the most that one may ask for. 0: none."""

    build_s: int = 36_000
    """Seconds of one build."""
    silence_s: int = 7_200
    """Seconds one build may be silent."""
    log_mib: int = 256
    """Size of one build's log."""
    output_mib: int = 0
    """Size of one build's outputs together."""
    evaluation_s: int = 7_200
    """Seconds of one evaluation."""
    evaluation_mib: int = 8_192
    """Resident memory of one evaluator."""
    retries: int = 5
    """Further tries after our own trouble."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `nixmill serve` is told."""

    url: str = "http://127.0.0.1:8484"
    """The address people use, without a slash at its end: links and cookies follow from it."""
    listen: str = "127.0.0.1:8484"
    """`HOST:PORT`, or `unix:/path/to/socket`."""
    state: Path = Path("/var/lib/nixmill")
    """Directory of database, logs, mirrors of repositories."""
    database: str = ""
    """`postgresql://…`, without a password; empty: SQLite in `state`."""
    database_password: str = ""
    """Name of a credential."""
    credentials: Mapping[str, Path] = {}
    """Secrets by name: files that only the server can read. Secrets stand nowhere else."""
    oidc: tuple[OidcProvider, ...] = ()
    """None: people sign in with passwords."""
    forges: tuple[ForgeSettings, ...] = ()
    """None: repositories are watched by git alone, and there are no pull requests."""
    caches: tuple[CacheSettings, ...] = ()
    """None: nothing is published."""
    roots: RootSettings = RootSettings()
    sandbox: Literal["require", "off"] = "require"
    """Whether pull requests are evaluated in a sandbox. `off` only where everybody who may open one is trusted."""
    unsandboxed_builds: bool = False
    """Whether pull requests are built though Nix's own sandbox is off; only where strangers open none."""
    sandbox_network: Literal["proxy", "none"] = "proxy"
    """What the sandbox reaches: public addresses through a filtering proxy, or nothing."""
    smtp: SmtpSettings | None = None
    """None: no e-mail."""
    matrix: MatrixSettings | None = None
    private_targets: bool = False
    """Whether messages may go to URLs at loopback, link-local and private addresses."""
    hooks: tuple[Hook, ...] = ()
    hooks_at_once: int = 4
    """Hooks that run at the same time."""
    runs_at_once: int = 4
    """Runs that are worked on at the same time; others wait."""
    min_free_mib: int = 512
    """Free space, in MiB, that the disks of the store and of `state` must have for anything new to begin; 0: any."""
    store: str = "auto"
    """As `--store` of `nixmill run`."""
    builders: str | None = None
    """As `--builders` of `nixmill run`; by default what Nix is configured for."""
    evaluator: Literal["auto", "own", "nix-eval-jobs"] = "auto"
    """As `--evaluator` of `nixmill run`."""
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
    limits: Limits = Limits()
    retention: Retention = Retention()
    body_bytes: int = 1024 * 1024
    """Largest body of a request."""
    webhook_bytes: int = 25 * 1024 * 1024
    """Largest body of a webhook: forges send whole lists of files."""
