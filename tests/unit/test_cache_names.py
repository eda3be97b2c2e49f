"""Which addresses are a cache's, and which names can exist at all."""

import pytest

from nixmill.web import cache_names

HASH = "0c0q0m8rjkxnnjcm5z0w6l1xk8f3wv2a"


@pytest.mark.parametrize(
    "name",
    [
        "nix-cache-info",
        f"{HASH}.narinfo",
        f"{HASH}.ls",
        "nar/1b9p07z77phvv2hf6gm9f28syp39f1ag.nar.zst",
        f"nar/1b9p07z77phvv2hf6gm9f28syp39f1ag-{HASH}.nar",
        f"log/{HASH}-hello-2.12.drv",
        "realisations/sha256:" + "ab" * 32 + "!out.doi",
        "debuginfo/" + "ab" * 20,
        "debuginfo/" + "ab" * 20 + ".debug",
    ],
)
def test_names_that_nix_asks_for_are_known(name: str) -> None:
    assert cache_names.known(name.encode()) == name
    assert cache_names.known(name.replace("!", "%21").replace(":", "%3A").encode()) == name


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"..",
        b"nar/",
        b"nar/..",
        b"nar/../secret",
        b"nar/.hidden",
        b"nar/%2e%2e/secret",
        b"nar%2fx.nar",
        b"nar%2Fx.nar",
        b"nar/a%00b",
        b"nar/a\x00b",
        b"nar/a%0ab",
        b"nar/a/b",
        b"nar//a",
        b"/nar/a",
        b"nar/\xff",
        b"nar/a%",
        b"nar/a%zz",
        b"nar/" + b"a" * 600,
        HASH[:-1].encode() + b".narinfo",
        b"e" * 32 + b".narinfo",
        HASH.encode() + b".narinfo%00",
        HASH.encode() + b".narinfo/",
        HASH.encode() + b".narinfo.json",
        b"log/5",
        b"gone/1",
        b"lock",
        b"realisations/sha256:ab!../x.doi",
    ],
)
def test_everything_else_is_not(raw: bytes) -> None:
    assert cache_names.known(raw) is None


def test_a_cache_is_named_below_cache() -> None:
    assert cache_names.below_cache(b"/cache/main/nar/x") == ("main", b"nar/x")
    for other in (b"/cache", b"/cache/", b"/cache/main", b"/cache/main/", b"/caches/x/y", b"/p/cache/main/x"):
        assert cache_names.below_cache(other) is None


def test_hydras_addresses_are_told_from_pages() -> None:
    for raw in (b"/nix-cache-info", f"/{HASH}.narinfo".encode(), b"/nar/x.nar", b"/realisations/x"):
        assert cache_names.at_root(raw) == raw[1:]
    for raw in (b"/", b"/p/nar/x", b"/nix-cache-info/x", b"/runs", b"/p/a.narinfo"):
        assert cache_names.at_root(raw) is None
