"""What is believed of a narinfo: that it is one, of the path that was asked for, and signed by a key of its cache."""

from collections.abc import Collection

from nixmill.nix import content_address, narinfo, store_path
from nixmill.nix.content_address import ContentAddressError
from nixmill.nix.narinfo import NarInfo, NarInfoError
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import PublicKey, signed_by
from nixmill.nix.store_path import StorePath


def read(text: bytes, path: StorePath, store_dir: str, keys: Collection[PublicKey], *, unsigned: bool) -> NarInfo:
    """Return what a narinfo says of `path`; raise `NarInfoError` where it may not be believed."""
    if len(text) > narinfo.SIZE_MAX:
        raise NarInfoError(f"It is longer than {narinfo.SIZE_MAX >> 20} MiB.")
    found = narinfo.parse(text.decode(errors="replace"), store_dir)
    if found.info.path != path:
        raise NarInfoError(f"It describes {found.info.path[:300]!r} instead.")
    _check_paths(found.info, store_dir)
    if not (unsigned or signed_by(found.info, keys) or _is_content_addressed(found.info, store_dir)):
        names = ", ".join(sorted({signature.partition(":")[0][:80] for signature in found.info.signatures}))
        said = f"Only {names} signed it" if names else "Nobody signed it"
        raise NarInfoError(f"{said}, or it was changed since; none of the cache's keys did.")
    return found


def _check_paths(info: PathInfo, store_dir: str) -> None:
    """Refuse malformed names: a daemon that is handed one loses its place."""
    try:
        for path in (*info.references, *([info.deriver] if info.deriver else [])):
            store_path.parse(path, store_dir)
    except ValueError as error:
        raise NarInfoError(str(error)[:300]) from None
    if not info.nar_size:
        raise NarInfoError("It says that the contents have no size.")


def _is_content_addressed(info: PathInfo, store_dir: str) -> bool:
    """Say whether the path follows from the contents it claims; whether it has these, the daemon checks."""
    if not info.content_address:
        return False
    try:
        address = content_address.parse(info.content_address)
        return (
            content_address.path_of(address, store_path.name_part(info.path), info.references, store_dir) == info.path
        )
    except ContentAddressError:
        return False
