"""Binary caches that results are published to: one `[[cache]]` table each of the server's settings."""

from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from nixmill.core.upload import ResultClass


class CacheKind(StrEnum):
    """What a cache is."""

    DISK = "disk"
    """A directory, served below `/cache/NAME`."""
    STORE = "store"
    """What was published is served straight from the store, and rooted there."""
    S3 = "s3"
    """A bucket, served below `/cache/NAME` too; clients may also read the bucket itself."""
    COPY = "copy"
    """Any store that `nix copy --to` knows (`ssh-ng://…`, `https://…`)."""
    COMMAND = "command"
    """A command that gets store paths, one a line: Cachix, Attic, niks3."""


class CacheSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A cache."""

    name: str
    """In addresses (`/cache/NAME`); never changed once something was published."""
    kind: CacheKind = CacheKind.DISK
    """`disk`, `store`, `s3`, `copy` or `command`."""
    results: ResultClass = ResultClass.BRANCH
    """Whose results it takes: `pull-request`, `branch` or `release`."""
    keys: tuple[str, ...] = ()
    """Names of credentials: secret keys that sign what is published, each of them; a new one goes first (rotation)."""
    directory: Path | None = None
    """`disk`: where; None: `caches/NAME` in the server's state."""
    bucket: str = ""
    """`s3`: its name."""
    endpoint: str = ""
    """`s3`: URL of the service; empty: that of AWS."""
    region: str = "us-east-1"
    """`s3`."""
    prefix: str = ""
    """`s3`: in front of all names."""
    access_key: str = ""
    """`s3`: name of a credential, the key's id."""
    secret_key: str = ""
    """`s3`: name of a credential."""
    url: str = ""
    """`copy`: the destination."""
    command: tuple[str, ...] = ()
    """`command`: program and arguments; store paths come on its standard input."""
    environment: tuple[str, ...] = ()
    """`command`: names of credentials that it finds in the environment, under the same names in capitals."""
    projects: tuple[str, ...] = ()
    """Globs of names of projects whose results it takes; empty: all that everybody may see. A private project's
    results enter no cache that does not name it."""
    private: bool = False
    """Whether reading needs a token: one of `readers`, or an API token of somebody who may see all of `projects`."""
    readers: tuple[str, ...] = ()
    """Names of credentials: tokens that may read, as password or bearer."""
    format: Literal["nar", "cas"] = "nar"
    """`nar`: one compressed file for each path. `cas`: files by content, so that equal ones are kept once."""
    compression_level: int = 3
    """Of zstd, 1 to 19."""
    intermediate: bool = True
    """Whether every output that was built is published, and not only those of attributes."""
    upstream_keys: tuple[str, ...] = ("cache.nixos.org-1",)
    """Names of keys: what they signed can be had elsewhere and is not published."""
    priority: int = 40
    """What clients are told: smaller is asked first; cache.nixos.org has 40."""
    max_days: float = 0.0
    """Days after which what nothing needs is deleted; 0: never."""
    max_paths: int = 0
    """Paths kept, the newest first; 0: any number."""
    max_gib: float = 0.0
    """Size kept, the newest first; 0: any size."""
    grace_hours: float = 24.0
    """Hours that a deleted path's archive stays for those who are reading it, and that nothing new is deleted."""
