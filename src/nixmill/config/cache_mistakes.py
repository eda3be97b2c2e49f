"""What can be wrong in `[[cache]]` and `[roots]` of the server's settings though it is well formed."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.config.mistakes import Mistake, key
from nixmill.config.roots import RootSettings
from nixmill.config.server import ServerSettings
from nixmill.nix.signature import SecretKey, SigningKeyError

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
LEVEL_MIN: Final = 1
LEVEL_MAX: Final = 19
SECRET_MAX: Final = 64 * 1024
"""Bytes of a credential's file that are read."""
OWN: Final = frozenset({CacheKind.DISK, CacheKind.STORE, CacheKind.S3})
"""Kinds that nixmill signs and serves itself."""
_ONLY: Final = {
    "directory": {CacheKind.DISK},
    "bucket": {CacheKind.S3},
    "endpoint": {CacheKind.S3},
    "prefix": {CacheKind.S3},
    "access_key": {CacheKind.S3},
    "secret_key": {CacheKind.S3},
    "url": {CacheKind.COPY},
    "command": {CacheKind.COMMAND},
    "environment": {CacheKind.COMMAND},
    "keys": OWN | {CacheKind.COPY},
    "private": OWN,
    "readers": OWN,
    "max_days": {CacheKind.DISK, CacheKind.S3},
    "max_paths": {CacheKind.DISK, CacheKind.S3},
    "max_gib": {CacheKind.DISK, CacheKind.S3},
}
"""Settings that mean something for some kinds alone."""
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._+=!-]+(/[A-Za-z0-9._+=!-]+)*/?\Z")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_URL: Final = {"http", "https", "ssh", "ssh-ng", "s3", "file", "unix", "local", "daemon"}


def credentials(cache: CacheSettings) -> Iterator[tuple[str, str]]:
    """Yield (place, name) of the credentials that a cache names."""
    place = f"[[cache]] {cache.name}"
    for field in ("keys", "readers", "environment"):
        for name in getattr(cache, field):
            yield f"{place} {field}", name
    yield f"{place} access-key", cache.access_key
    yield f"{place} secret-key", cache.secret_key


def nonsense(settings: ServerSettings) -> Iterator[Mistake]:
    """Yield what cannot be."""
    for cache in settings.caches:
        place = f"[[cache]] {cache.name}"
        yield from _name(cache, place)
        yield from _kind(cache, place)
        yield from _reading(cache, place)
        yield from _numbers(cache, place)
    yield from _places(settings)
    yield from _keys(settings)
    yield from _roots(settings.roots)


def _name(cache: CacheSettings, place: str) -> Iterator[Mistake]:
    if not NAME.fullmatch(cache.name) or cache.name in {".", ".."}:
        remedy = "Use 1 to 64 letters, digits, '.', '_' and '-'."
        yield Mistake(f"{place} name", f"{cache.name!r} cannot be the name of a cache.", remedy)
    if cache.name == "substituter":
        yield Mistake(f"{place} name", "'substituter' is what caches that are not ours are called.", "Use another one.")


def _kind(cache: CacheSettings, place: str) -> Iterator[Mistake]:
    """Yield what the kind of a cache needs and does not have, or has and does not need."""
    match cache.kind:
        case CacheKind.DISK | CacheKind.STORE:
            pass
        case CacheKind.S3:
            yield from _bucket(cache, place)
        case CacheKind.COPY:
            yield from _destination(cache, place)
        case CacheKind.COMMAND:
            yield from _command(cache, place)
    if cache.format == "cas" and cache.kind not in {CacheKind.DISK, CacheKind.S3}:
        yield Mistake(f"{place} format", f"`cas` is for `disk` and `s3`, and this one is `{cache.kind}`.")
    default = CacheSettings(name=cache.name)
    for field, kinds in _ONLY.items():
        if cache.kind not in kinds and getattr(cache, field) != getattr(default, field):
            known = " and ".join(f"`{kind}`" for kind in CacheKind if kind in kinds)
            sentence = f"means nothing for a cache of kind `{cache.kind}` (only for {known})."
            yield Mistake(f"{place} {key(field)}", sentence, "Leave it out, or choose another `kind`.")


def _bucket(cache: CacheSettings, place: str) -> Iterator[Mistake]:
    if not cache.bucket:
        yield Mistake(f"{place} bucket", "is missing.", "Write the name of the bucket.")
    elif not _BUCKET.fullmatch(cache.bucket):
        yield Mistake(f"{place} bucket", f"{cache.bucket!r} is no name of a bucket.", "Write it without address.")
    if cache.prefix and (not _PREFIX.fullmatch(cache.prefix) or ".." in cache.prefix.split("/")):
        yield Mistake(f"{place} prefix", f"{cache.prefix!r} is no prefix.", "Write one such as `caches/main`.")
    if bool(cache.access_key) != bool(cache.secret_key):
        missing = "secret-key" if cache.access_key else "access-key"
        yield Mistake(
            f"{place} {missing}", "is missing: the two belong together.", "Name the credential that holds it."
        )
    if cache.endpoint:
        yield from _address(f"{place} endpoint", cache.endpoint, {"http", "https"}, "https://s3.example.org")


def _destination(cache: CacheSettings, place: str) -> Iterator[Mistake]:
    if cache.url:
        yield from _address(f"{place} url", cache.url, _URL, "ssh-ng://host.example.org")
    else:
        yield Mistake(f"{place} url", "is missing.", "Write what you would write after `nix copy --to`.")


def _command(cache: CacheSettings, place: str) -> Iterator[Mistake]:
    if not cache.command or not cache.command[0]:
        remedy = 'Write program and arguments, such as ["cachix", "push", "mine"].'
        yield Mistake(f"{place} command", "is missing.", remedy)
    elif any("\0" in word for word in cache.command):
        yield Mistake(f"{place} command", "holds a zero byte.")
    for name in cache.environment:
        if not _VARIABLE.fullmatch(name):
            yield Mistake(
                f"{place} environment", f"{name!r} cannot be a variable.", "Give the credential another name."
            )


def _address(place: str, url: str, schemes: set[str], example: str) -> Iterator[Mistake]:
    """Yield what is wrong with an address; it is not repeated where a secret may stand in it."""
    try:
        parts = urlsplit(url)
        # A name without a password is a token, but of ssh, where it is the user.
        secret = bool(parts.password) or (bool(parts.username) and parts.scheme in {"http", "https"})
    except ValueError:
        yield Mistake(place, "is no address.", f"Write one such as {example}")
        return
    if secret:
        remedy = "Settings can be read by many; put it into a netrc file, or use a key of ssh."
        yield Mistake(place, "a password may not stand in it.", remedy)
    elif parts.scheme not in schemes or url != url.strip() or not url.isprintable():
        yield Mistake(place, "is no address of a kind that is known here.", f"Write one such as {example}")


def _reading(cache: CacheSettings, place: str) -> Iterator[Mistake]:
    if cache.private and not cache.readers and not cache.projects:
        remedy = "Name `readers` (credentials with tokens), or the `projects` whose people may read it."
        yield Mistake(f"{place} private", "nobody could read this cache.", remedy)
    if cache.readers and not cache.private:
        remedy = "Write `private = true`, or leave `readers` out."
        yield Mistake(f"{place} readers", "everybody may read this cache, with or without a token.", remedy)


def _numbers(cache: CacheSettings, place: str) -> Iterator[Mistake]:
    if not LEVEL_MIN <= cache.compression_level <= LEVEL_MAX:
        sentence = f"{cache.compression_level} is no level of zstd."
        yield Mistake(f"{place} compression-level", sentence, f"Write a number from {LEVEL_MIN} to {LEVEL_MAX}.")
    for field in ("max_days", "max_paths", "max_gib", "grace_hours", "priority"):
        yield from _not_negative(f"{place} {key(field)}", getattr(cache, field))


def _roots(roots: RootSettings) -> Iterator[Mistake]:
    for field in ("gone_days", "pull_request_days", "pull_request_open_days", "pull_request_runs"):
        yield from _not_negative(f"[roots] {key(field)}", getattr(roots, field))
    if roots.keep < 1:
        yield Mistake("[roots] keep", "the newest generation is always kept.", "Write 1 or more.")
    elif roots.keep_max < roots.keep:
        yield Mistake("[roots] keep-max", f"is less than `keep` ({roots.keep}).", "Write at least as many.")


def _not_negative(place: str, number: float) -> Iterator[Mistake]:
    if not 0 <= number < float("inf"):
        yield Mistake(place, f"{number} makes no sense.", "Write 0 or more.")


def _places(settings: ServerSettings) -> Iterator[Mistake]:
    """Yield names that are there twice, and caches that stand in each other's place."""
    names = [cache.name.lower() for cache in settings.caches]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Mistake("[[cache]]", f"{name!r} is there twice.", "Give each its own name; case does not matter.")
    yield from _among_others(settings)
    standing: list[tuple[CacheSettings, Sequence[str]]] = []
    for cache in settings.caches:
        if (here := _stands(cache, settings.state)) is None:
            continue
        other = next((one for one, there in standing if _within(here, there)), None)
        if other is not None:
            where = "directory" if cache.kind is CacheKind.DISK else "bucket and prefix"
            sentence = f"{cache.name} and {other.name} stand in each other's {where}."
            remedy = "Give each its own; above all, what pull requests built may not stand beside results of branches."
            yield Mistake("[[cache]]", sentence, remedy)
        standing.append((cache, here))


def _among_others(settings: ServerSettings) -> Iterator[Mistake]:
    """Yield directories where other files of the server stand: what no narinfo names is deleted from a cache."""
    state = Path(os.path.normpath(settings.state))
    for cache in settings.caches:
        if cache.kind is not CacheKind.DISK or cache.directory is None:
            continue
        here = Path(os.path.normpath(cache.directory))
        if here in {state, state / "caches"} or here in state.parents:
            sentence = f"{here} holds other files of this server."
        elif state in here.parents and state / "caches" not in here.parents:
            sentence = f"{here} is among the server's own files."
        else:
            continue
        yield Mistake(f"[[cache]] {cache.name} directory", sentence, "Give the cache a directory of its own.")


def _stands(cache: CacheSettings, state: Path) -> Sequence[str] | None:
    """Return where a cache keeps its objects, part by part; None where it keeps none itself."""
    match cache.kind:
        case CacheKind.DISK:
            return Path(os.path.normpath(cache.directory or state / "caches" / cache.name)).parts
        case CacheKind.S3:
            return ("s3", cache.endpoint.rstrip("/"), cache.bucket, *filter(None, cache.prefix.split("/")))
        case CacheKind.STORE | CacheKind.COPY | CacheKind.COMMAND:
            return None


def _within(here: Sequence[str], there: Sequence[str]) -> bool:
    """Say whether one place is the other, or one is within the other."""
    common = min(len(here), len(there))
    return here[:common] == there[:common]


class _Use(msgspec.Struct, frozen=True):
    cache: CacheSettings
    name: str
    """Of the key itself, which clients see."""
    public: str


def _keys(settings: ServerSettings) -> Iterator[Mistake]:
    """Yield what is wrong with keys, each read from its file."""
    uses: list[_Use] = []
    for cache in settings.caches:
        place = f"[[cache]] {cache.name} keys"
        of_cache: list[_Use] = []
        for credential in cache.keys:
            text = _read(settings.credentials.get(credential))
            if text is None:
                continue  # told of the credential itself
            try:
                secret = SecretKey(text)
            except SigningKeyError as error:
                remedy = f"Make one: nixmill cache key new {cache.name}-1 FILE"
                yield Mistake(place, f"the credential {credential!r} is no secret key: {error}", remedy)
                continue
            of_cache.append(_Use(cache, secret.name, secret.public()))
        names = [use.name for use in of_cache]
        for name in sorted({name for name in names if names.count(name) > 1}):
            remedy = "Clients tell keys by their names; number them: main-1, main-2."
            yield Mistake(place, f"two keys are called {name!r}.", remedy)
        uses += {use.name: use for use in of_cache}.values()
    yield from _shared_keys(uses)


def _shared_keys(uses: Sequence[_Use]) -> Iterator[Mistake]:
    """Yield keys that sign results of several classes: whoever trusts one of them would trust all."""
    by_public: defaultdict[str, list[CacheSettings]] = defaultdict(list)
    by_name: defaultdict[str, set[str]] = defaultdict(set)
    for use in uses:
        by_public[use.public.partition(":")[2]].append(use.cache)
        by_name[use.name].add(use.public)
    for caches in by_public.values():
        if len({cache.results for cache in caches}) > 1:
            which = ", ".join(f"{cache.name} ({cache.results} results)" for cache in caches)
            sentence = f"one key signs for {which}: whoever trusts it for one would trust it for all."
            yield Mistake("[[cache]] keys", sentence, "Give each class of results its own key.")
    for name, publics in sorted(by_name.items()):
        if len(publics) > 1:
            sentence = f"several different keys are called {name!r}."
            yield Mistake("[[cache]] keys", sentence, "Clients tell keys by their names; give each its own.")


def _read(path: Path | None) -> str | None:
    """Return the text of a credential; None where there is none, or it is no text."""
    if path is None or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return file.read(SECRET_MAX).decode()
    except OSError:
        return None
    except UnicodeDecodeError:
        return ""
