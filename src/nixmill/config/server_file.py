"""The server's settings file: TOML → `ServerSettings`, with every mistake told at once.

Where it is: `--config`, else `$NIXMILL_CONFIG`, else `/etc/nixmill/server.toml` where that exists. Without any file
everything has a default and the state stands under the user's own state directory. Variables such as
`NIXMILL_LISTEN` win over the file, options over both. Secrets are files: `[credentials]` names them, and each file in
systemd's `$CREDENTIALS_DIRECTORY` is one by its own name.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from pydantic import Field

from nixmill.config import cache_mistakes, forge_mistakes
from nixmill.config.caches import CacheSettings
from nixmill.config.forges import ForgeSettings
from nixmill.config.mistakes import Mistake, Narrower, Table, key, read_struct, read_toml, refuse
from nixmill.config.roots import RootSettings
from nixmill.config.server import Retention, ServerSettings, SmtpSettings
from nixmill.core.errors import InputError
from nixmill.core.hook import Hook, check_match

S = TypeVar("S", CacheSettings, RootSettings)
DEFAULT_FILE: Final = Path("/etc/nixmill/server.toml")
DOCUMENTATION: Final = "All settings: docs/configuration.md of nixmill."
PREFIX: Final = "NIXMILL_"
WRITTEN: Final = {"hooks": "hook", "forges": "forge", "caches": "cache"}
"""Fields that are written otherwise than they are called: `[[hook]]` is one hook, `[[forge]]` one forge, and so on."""
_DAYS: Final = Annotated[int, Field(ge=0, le=36_500)]
_AT_ONCE: Final = Annotated[int, Field(ge=1, le=10_000)]
_NARROWER: Final[Narrower] = {
    (SmtpSettings, "port"): Annotated[int, Field(ge=1, le=65_535)],
    (SmtpSettings, "security"): Literal["starttls", "tls", "none"],
    (Hook, "on"): tuple[Literal["succeeded", "failed"], ...],
    (Hook, "command"): Annotated[tuple[str, ...], Field(min_length=1)],
    (Hook, "timeout_s"): Annotated[float, Field(gt=0)],
    (Retention, "runs"): Annotated[int, Field(ge=1)],
    (Retention, "run_days"): _DAYS,
    (Retention, "log_days"): _DAYS,
    (Retention, "audit_days"): _DAYS,
    (ForgeSettings, "reconcile_s"): Annotated[int, Field(ge=30, le=86_400)],
    (ServerSettings, "hooks_at_once"): _AT_ONCE,
    (ServerSettings, "runs_at_once"): _AT_ONCE,
    (ServerSettings, "sign_in_tries"): _AT_ONCE,
    (ServerSettings, "body_bytes"): Annotated[int, Field(ge=1024, le=1024**3)],
}


def settings_file(said: Path | None, environ: Mapping[str, str], default: Path = DEFAULT_FILE) -> Path | None:
    """Return the file that is to be read; None where there is none and none was asked for."""
    if said is not None:
        return said
    if environ.get("NIXMILL_CONFIG"):
        return Path(environ["NIXMILL_CONFIG"])
    return default if default.exists() else None


def read_server_settings(
    path: Path | None, environ: Mapping[str, str], options: Mapping[str, str] | None = None
) -> ServerSettings:
    """Return the settings of a file, of the environment and of `options` (by field), the last one winning.

    `path` None: no file. Raises `InputError` that tells all mistakes.
    """
    table = read_toml(_text(path), str(path)) if path is not None else {}
    table = {_field_key(name): value for name, value in table.items()}
    said = {key(name): value for name, value in (options or {}).items()}
    table |= _from_environment(environ) | said
    where = str(path) if path is not None else "The server's settings"
    read, mistakes = read_struct(_with_defaults(table, environ, path), ServerSettings, _NARROWER)
    if read is None:
        refuse(where, [_named_as_written(mistake) for mistake in mistakes], DOCUMENTATION)
        raise AssertionError
    settings = _at_home(read, path.parent if path is not None else Path.cwd(), environ)
    refuse(where, list(_nonsense(settings, environ)), DOCUMENTATION)
    return settings


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"There is no settings file {path}.", "Leave --config and NIXMILL_CONFIG out for a first look."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.", f"Look at it: ls -l {path}") from error


def _field_key(written: str) -> str:
    """Return the key of the field that `written` means; the plural that nobody writes is no key."""
    by_written = {name: field for field, name in WRITTEN.items()}
    return f"{written} " if written in WRITTEN else by_written.get(written, written)


def _named_as_written(mistake: Mistake) -> Mistake:
    place = mistake.place.rstrip()
    for field, name in WRITTEN.items():
        place = place.replace(f"[{field}]", f"[{name}]")
    remedy = mistake.remedy
    for field, name in WRITTEN.items():
        remedy = remedy.replace(f"`{field}`", f"`[[{name}]]`")
    return mistake._replace(place=place, remedy=remedy)


def _from_environment(environ: Mapping[str, str]) -> Table:
    """Return what `NIXMILL_…` variables say: everything that is no table. A list has commas between its items."""
    found: Table = {}
    for field in msgspec.structs.fields(ServerSettings):
        value = environ.get(PREFIX + field.name.upper(), "")
        if not value or _is_table(field.type):
            continue
        many = "tuple" in str(field.type)
        found[key(field.name)] = [item.strip() for item in value.split(",") if item.strip()] if many else value
    return found


def _is_table(kind: Any) -> bool:  # noqa: ANN401 - any annotation
    """Say whether something is written as a table, which no variable can hold."""
    return any(
        get_origin(part) is Mapping or (isinstance(part, type) and issubclass(part, msgspec.Struct | dict))
        for part in (kind, *get_args(kind))
    )


def _with_defaults(table: Table, environ: Mapping[str, str], path: Path | None) -> Table:
    """Return the table with defaults that depend on where the server runs."""
    table = dict(table)
    if "state" not in table and environ.get("STATE_DIRECTORY"):
        table["state"] = environ["STATE_DIRECTORY"].partition(":")[0]
    if "state" not in table and path is None:
        base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "/") / ".local/state")
        table["state"] = str(Path(base) / "nixmill" / "server")
    listen = table.get("listen")
    if "url" not in table and isinstance(listen, str) and _is_local(listen):
        table["url"] = f"http://{listen}"
    if isinstance(table.get("url"), str):
        table["url"] = table["url"].rstrip("/")
    return table


def _is_local(listen: str) -> bool:
    return listen.startswith(("127.", "localhost:", "[::1]:"))


def _at_home(settings: ServerSettings, directory: Path, environ: Mapping[str, str]) -> ServerSettings:
    """Return the settings with whole paths, and with systemd's credentials; those that the file names win."""
    credentials = {name: directory / path for name, path in settings.credentials.items()}
    given = environ.get("CREDENTIALS_DIRECTORY", "")
    from_systemd = {p.name: p for p in sorted(Path(given).iterdir())} if given and Path(given).is_dir() else {}
    return msgspec.structs.replace(
        settings,
        state=directory / settings.state,
        caches=tuple(_placed(cache, directory) for cache in settings.caches),
        roots=_placed(settings.roots, directory),
        projects_file=directory / settings.projects_file if settings.projects_file else None,
        credentials={**from_systemd, **credentials},
    )


def _placed(settings: S, directory: Path) -> S:
    """Return settings whose `directory`, where they have one, is a whole path."""
    said = settings.directory
    return msgspec.structs.replace(settings, directory=directory / said) if said is not None else settings


def _nonsense(settings: ServerSettings, environ: Mapping[str, str]) -> Iterator[Mistake]:
    """Yield what is well formed and still cannot be."""
    yield from _address_mistakes(settings)
    yield from _database_mistakes(settings)
    yield from _names_twice(settings)
    if settings.projects_file is not None and not settings.projects_file.is_file():
        yield Mistake("projects-file", f"there is no file {settings.projects_file}.")
    for number, hook in enumerate(settings.hooks, 1):
        try:
            check_match(hook.match)
        except InputError as error:
            yield Mistake(f"[[hook]] {number} match", str(error), error.remedy)
    for forge in settings.forges:
        yield from forge_mistakes.nonsense(forge)
    yield from cache_mistakes.nonsense(settings)
    for place, name in _credentials_used(settings):
        if name and name not in settings.credentials:
            known = ", ".join(sorted(settings.credentials)) or "none"
            yield Mistake(place, f"there is no credential {name!r} (there are: {known}).", "Add it to [credentials].")
    for name, path in settings.credentials.items():
        yield from _file_mistakes(name, path, guarded=str(path.parent) == environ.get("CREDENTIALS_DIRECTORY"))


def _address_mistakes(settings: ServerSettings) -> Iterator[Mistake]:
    parts = urlsplit(settings.url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or parts.username:
        yield Mistake("url", f"{settings.url!r} is no address.", "Write one such as https://ci.example.org")
    host, colon, port = settings.listen.rpartition(":")
    if settings.listen.startswith("unix:"):
        if not settings.listen.startswith("unix:/"):
            yield Mistake("listen", "the path of a socket begins with a slash.", "Write unix:/run/nixmill/socket")
    elif not colon or not host or not port.isdecimal() or int(port) > 65_535:
        yield Mistake("listen", f"{settings.listen!r} is no HOST:PORT.", "Write one such as 127.0.0.1:8484")
    elif not _is_local(settings.listen) and settings.url == ServerSettings().url:
        yield Mistake("url", "is missing: under which address do people reach this server?", "NIXMILL_URL says it too.")


def _database_mistakes(settings: ServerSettings) -> Iterator[Mistake]:
    if not settings.database:
        return
    try:
        parts = urlsplit(settings.database)
    except ValueError:
        yield Mistake("database", "is no address.", "Write postgresql://USER@HOST/NAME, or leave it out for SQLite.")
        return
    if parts.password:
        yield Mistake(
            "database",
            "a password may not stand in it.",
            "Put it into a file that only the server can read, name that in [credentials], and that name in"
            " `database-password`.",
        )
    if parts.scheme not in {"postgresql", "postgres"}:
        yield Mistake("database", "is no PostgreSQL address.", "Write postgresql://USER@HOST/NAME, or leave it out.")


def _names_twice(settings: ServerSettings) -> Iterator[Mistake]:
    tables = {
        "[[oidc]]": [one.name for one in settings.oidc],
        "[[hook]]": [one.name for one in settings.hooks],
        "[[forge]]": [one.name for one in settings.forges],
        "[[oidc]] and [[forge]]": [*{one.name for one in settings.oidc}, *{one.name for one in settings.forges}],
    }
    for place, names in tables.items():
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield Mistake(place, f"{name!r} is there twice.", "Give each its own name.")


def _credentials_used(settings: ServerSettings) -> Iterator[tuple[str, str]]:
    yield "database-password", settings.database_password
    if settings.smtp is not None:
        yield "[smtp] password", settings.smtp.password
    if settings.matrix is not None:
        yield "[matrix] token", settings.matrix.token
    for number, provider in enumerate(settings.oidc, 1):
        yield f"[[oidc]] {number} client-secret", provider.client_secret
    for forge in settings.forges:
        yield from forge_mistakes.credentials(forge)
    for cache in settings.caches:
        yield from cache_mistakes.credentials(cache)


def _file_mistakes(name: str, path: Path, *, guarded: bool) -> Iterator[Mistake]:
    """Yield what is wrong with the file of a credential.

    A file of somebody else (root) may be readable by its group, which is how the server gets at it then. `guarded`:
    systemd made its directory for this service alone; modes there show access lists of its own.
    """
    place = f"[credentials] {name}"
    try:
        found = path.stat()
    except FileNotFoundError:
        yield Mistake(place, f"there is no file {path}.")
        return
    except OSError as error:
        yield Mistake(place, f"{path} cannot be looked at: {error.strerror}.")
        return
    open_to = 0o077 if found.st_uid == os.geteuid() else 0o027
    if not stat.S_ISREG(found.st_mode):
        yield Mistake(place, f"{path} is no file.")
    elif not guarded and found.st_mode & open_to:
        mode = stat.S_IMODE(found.st_mode)
        yield Mistake(place, f"{path} is open to others (mode {mode:04o}).", f"Type: chmod {mode & ~open_to:o} {path}")
    elif not os.access(path, os.R_OK):
        yield Mistake(place, f"{path} cannot be read by this user.")
