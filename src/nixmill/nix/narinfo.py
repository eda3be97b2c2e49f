"""What a binary cache says of a path: `HASH.narinfo`, read and written.

Lines of `Key: value`. Hashes are `sha256:` and base 32; references and the deriver are base names.
Source: Nix manual, "HTTP Binary Cache Store"; `src/libstore/nar-info.cc` (Nix 2.8 to 2.34).
"""

from typing import Final

import msgspec

from nixmill.nix import hashes
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

MEDIA_TYPE: Final = "text/x-nix-narinfo"
SIZE_MAX: Final = 8 * 1024 * 1024
"""Longest narinfo believed: one with 100,000 references."""
_ONCE: Final = frozenset(
    {"StorePath", "URL", "Compression", "FileHash", "FileSize", "NarHash", "NarSize", "References", "Deriver", "CA"}
)


class NarInfoError(ValueError):
    """The text is no narinfo; the message says why."""


class NarInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A path in a cache. `info.nar_hash` is in hexadecimal, as everywhere in nixmill."""

    info: PathInfo
    url: str
    """Of its archive, relative to the cache."""
    compression: str = "none"
    """`none`, `zstd`, `xz`, `bzip2`, `br`, …; empty in a file means `bzip2`."""
    file_hash: str = ""
    """`sha256:` and base 32; empty where the archive is made on the fly."""
    file_size: int = 0
    """Bytes; 0 where unknown."""


def write(narinfo: NarInfo) -> str:
    """Return the text of a narinfo."""
    info = narinfo.info
    lines = [f"StorePath: {info.path}", f"URL: {narinfo.url}", f"Compression: {narinfo.compression}"]
    if narinfo.file_hash:
        lines.append(f"FileHash: {narinfo.file_hash}")
    if narinfo.file_size:
        lines.append(f"FileSize: {narinfo.file_size}")
    lines += [f"NarHash: {base32(info.nar_hash)}", f"NarSize: {info.nar_size}"]
    lines.append("References: " + " ".join(sorted(_base(path) for path in info.references)))
    if info.deriver:
        lines.append(f"Deriver: {_base(info.deriver)}")
    lines += [f"Sig: {signature}" for signature in info.signatures]
    if info.content_address:
        lines.append(f"CA: {info.content_address}")
    return "\n".join(lines) + "\n"


def parse(text: str, store_dir: str) -> NarInfo:
    """Return what a narinfo says; raise `NarInfoError` where it is none, or of another store directory."""
    fields, signatures = _fields(text)
    path = fields.get("StorePath", "")
    if not path.startswith(f"{store_dir}/"):
        raise NarInfoError(f"It describes {path[:200]!r}, which is not in {store_dir}.")
    try:
        info = PathInfo(
            path=StorePath(path),
            deriver=_full(fields.get("Deriver", ""), store_dir),
            nar_hash="sha256:" + hashes.parse(fields["NarHash"], "sha256").base16(),
            nar_size=_size(fields["NarSize"]),
            references=tuple(StorePath(f"{store_dir}/{name}") for name in fields.get("References", "").split()),
            signatures=tuple(signatures),
            content_address=fields.get("CA", ""),
        )
        url = fields["URL"]
    except KeyError as error:
        raise NarInfoError(f"It has no field {error}.") from error
    except ValueError as error:
        raise NarInfoError(str(error)) from error
    return NarInfo(
        info=info,
        url=url,
        compression=fields.get("Compression", "bzip2"),
        file_hash=fields.get("FileHash", ""),
        file_size=_size(fields.get("FileSize", "0")),
    )


def base32(nar_hash: str) -> str:
    """Return `sha256:` and base 32 for a hash in any spelling."""
    return "sha256:" + hashes.parse(nar_hash, "sha256").base32()


def _fields(text: str) -> tuple[dict[str, str], list[str]]:
    fields: dict[str, str] = {}
    signatures = []
    for line in text.splitlines():
        key, found, value = line.partition(": ")
        if not found and not line.endswith(":"):
            raise NarInfoError(f"{line[:80]!r} is no line of a narinfo.")
        if key == "Sig":
            signatures.append(value)
        elif key in _ONCE and fields.setdefault(key, value) != value:
            raise NarInfoError(f"It says {key} twice.")
    return fields, signatures


def _size(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise NarInfoError(f"{text[:40]!r} is no size.")
    return int(text)


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _full(name: str, store_dir: str) -> StorePath | None:
    return StorePath(f"{store_dir}/{name}") if name and name != "unknown-deriver" else None
