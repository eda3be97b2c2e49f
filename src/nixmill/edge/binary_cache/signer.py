"""The one place where paths are signed."""

from collections.abc import Iterable, Sequence

import msgspec

from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import PublicKey, SecretKey, public_key
from nixmill.nix.store_path import StorePath, base_name


class Signer:
    """Signs with several keys; never shows any."""

    def __init__(self, keys: Sequence[SecretKey]) -> None:
        """Sign with each of `keys`; with none, nothing is signed."""
        self._keys = tuple(keys)
        self.public: tuple[PublicKey, ...] = tuple(public_key(key.public()) for key in keys)

    def signed(self, info: PathInfo) -> PathInfo:
        """Return the path with the signatures that it had and one of each key that had not signed it truly."""
        lacking = [key for key, public in zip(self._keys, self.public, strict=True) if not public.verifies(info)]
        if not lacking:
            return info
        kept = _without(info.signatures, {key.name for key in lacking})
        return msgspec.structs.replace(info, signatures=(*kept, *(key.sign(info) for key in lacking)))

    def realisation(self, identifier: str, out_path: StorePath) -> bytes:
        """Return the file of a realisation: JSON, signed with all keys over itself without signatures.

        Source: `Realisation::fingerprint` in `src/libstore/realisation.cc` (Nix 2.4 to 2.34).
        """
        facts = {"dependentRealisations": {}, "id": identifier, "outPath": base_name(out_path)}
        text = msgspec.json.encode(facts, order="sorted")
        signatures = [key.sign_bytes(text) for key in self._keys]
        return msgspec.json.encode({**facts, "signatures": signatures}, order="sorted")


def _without(signatures: Iterable[str], names: set[str]) -> list[str]:
    """Leave out signatures under names of ours that do not hold: they are of a lost key, or of other contents."""
    return [signature for signature in signatures if signature.partition(":")[0] not in names]
