import pytest

from nixmill.nix import hashes
from nixmill.nix.hashes import HashError

# The SHA-256 of "abc" in every spelling; `nix hash to-base32` and friends agree.
HEX = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
BASE32 = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s"
BASE64 = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha256:{BASE32}", f"sha256:{BASE64}", f"sha256-{BASE64}"])
def test_every_spelling_is_the_same_hash(text: str) -> None:
    parsed = hashes.parse(text)

    assert (parsed.base16(), parsed.base32(), parsed.base64()) == (HEX, BASE32, BASE64)
    assert parsed.sri() == f"sha256-{BASE64}"


def test_a_bare_hash_needs_an_algorithm() -> None:
    assert hashes.parse(BASE32, "sha256").base16() == HEX
    with pytest.raises(HashError, match="which kind"):
        hashes.parse(BASE32)


@pytest.mark.parametrize(
    "text",
    [
        "sha256:",
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{'z' * 52}",
        f"sha256:{BASE32[:-1]}e",
        f"sha256-{BASE64[:-4]}",
        f"sha256-{HEX}",
        f"sha1:{HEX}",
        f"md6:{HEX}",
    ],
)
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(HashError):
        hashes.parse(text)


def test_another_algorithm_than_expected_is_refused() -> None:
    with pytest.raises(HashError, match="where sha512 was expected"):
        hashes.parse(f"sha256:{HEX}", "sha512")
