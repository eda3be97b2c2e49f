"""Realisations are read as Nix writes them, signed as Nix checks them, and go with the paths that they name."""

import base64
import os
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from nixmill.edge.binary_cache.realisations import sweep_realisations
from nixmill.edge.binary_cache.signer import Signer
from nixmill.nix.realisation import Realisation, RealisationError, fingerprint, parse, write
from nixmill.nix.signature import SecretKey, secret_text
from nixmill.nix.store_path import StorePath
from tests.fakes.objects import MemoryObjects

STORE: Final = "/nix/store"
BELOW: Final = "0c0q0m8rjkxnnjcm5z0w6l1xk8f3wv2a-below"
TOP: Final = "1c0q0m8rjkxnnjcm5z0w6l1xk8f3wv2a-top"
ONE: Final = f"sha256:{'6f' * 32}!out"
TWO: Final = f"sha256:{'7f' * 32}!out"
TEXT: Final = (
    f'{{"dependentRealisations":{{"{ONE}":"{BELOW}"}},"id":"{TWO}","outPath":"{TOP}","signatures":["k:AA=="]}}'
)


def test_it_comes_back_as_it_was_read() -> None:
    found = parse(TEXT, STORE)
    assert found.output == "out"
    assert found.out_path == StorePath(f"{STORE}/{TOP}")
    assert found.dependent == {ONE: StorePath(f"{STORE}/{BELOW}")}
    assert write(found).decode() == TEXT
    assert fingerprint(found).decode() == TEXT.replace(',"signatures":["k:AA=="]', "")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id":"x"}', '{"id":"x","outPath":"../x"}', "[" * 100_000, b"\xff"])
def test_what_is_none_is_refused(text: str | bytes) -> None:
    with pytest.raises(RealisationError, match="is no realisation"):
        parse(text, STORE)


def test_our_signatures_take_the_place_of_others() -> None:
    keys = [SecretKey(secret_text(name, os.urandom(32))) for name in ("one", "two")]
    signer = Signer(keys)
    signed = signer.realised(parse(TEXT, STORE))
    assert [signature.partition(":")[0] for signature in signed.signatures] == ["one", "two"]
    for key, signature in zip(signer.public, signed.signatures, strict=True):
        data = base64.b64decode(signature.partition(":")[2])
        Ed25519PublicKey.from_public_bytes(key.data).verify(data, fingerprint(signed))


async def test_those_whose_path_is_gone_are_swept_after_a_while() -> None:
    objects = MemoryObjects()
    for name, base in (("one", BELOW), ("two", TOP)):
        content = write(Realisation(id=name, out_path=StorePath(f"{STORE}/{base}")))
        await objects.put(f"realisations/{name}.doi", content)
    await objects.put("realisations/none.doi", b"none")
    await objects.put(f"{BELOW[:32]}.narinfo", b"")
    names = [found.name async for page in objects.names("realisations/") for found in page]
    assert await sweep_realisations(objects, before=-1.0) == 0
    assert await sweep_realisations(objects, before=float("inf")) > 0
    left = {found.name async for page in objects.names("realisations/") for found in page}
    assert set(names) - left == {"realisations/two.doi"}
