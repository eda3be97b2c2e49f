import os
from pathlib import Path

import pytest

from nixmill.cli.cache import check_user
from nixmill.cli.cache_progress import progress
from nixmill.cli.cache_view import CacheRow, listing, page, trouble
from nixmill.cli.render.paint import Paint
from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.core.errors import InputError
from nixmill.core.upload import ResultClass
from nixmill.engine.cache_verifier import Trouble
from nixmill.nix.store_path import StorePath

PLAIN = Paint(colour=False, unicode=True)
MAIN = CacheRow(
    name="main",
    kind=CacheKind.DISK,
    results=ResultClass.BRANCH,
    paths=1204,
    size=5 * 1024**3,
    waiting=3,
    failed=1,
)
FAR = CacheRow(name="far", kind=CacheKind.COPY, results=ResultClass.RELEASE, paths=None, size=None, waiting=0, failed=0)
URL = "https://ci.example.org"


def test_caches_are_listed_in_columns() -> None:
    assert listing([MAIN, FAR], PLAIN, 80) == [
        "name  kind  results  paths     size  waiting  failed",
        "main  disk  branch   1,204  5.0 GiB        3       1",
        "far   copy  release                        0       0",
    ]


def test_a_page_has_the_lines_for_nix_conf() -> None:
    lines = page(MAIN, CacheSettings(name="main"), ["main-2:BBBB", "main-1:AAAA"], URL)
    assert "  extra-substituters = https://ci.example.org/cache/main" in lines
    assert "  extra-trusted-public-keys = main-2:BBBB main-1:AAAA" in lines
    assert "To try those again: nixmill cache retry main" in lines
    assert not any("netrc" in line for line in lines)
    assert "It keeps everything." in lines
    limited = CacheSettings(name="main", max_days=30)
    assert "It keeps what is younger than 30 days, and whatever pins and runs need." in page(MAIN, limited, [], URL)
    store = page(MAIN, CacheSettings(name="main", kind=CacheKind.STORE), [], URL)
    assert any("has a root in the store" in line for line in store)


def test_a_page_of_a_private_cache_says_where_the_token_goes() -> None:
    lines = page(MAIN, CacheSettings(name="main", private=True), ["main-1:AAAA"], URL)
    assert "  machine ci.example.org login nixmill password TOKEN" in lines


def test_a_page_of_an_unsigned_cache_says_so() -> None:
    assert any("not signed" in line for line in page(MAIN, CacheSettings(name="main"), [], URL))


def test_what_others_serve_has_no_lines_for_nix_conf() -> None:
    copied = page(FAR, CacheSettings(name="far", kind=CacheKind.COPY, url="ssh-ng://far.example.org"), [], URL)
    assert copied[-1] == "Published to ssh-ng://far.example.org"
    pushed = page(FAR, CacheSettings(name="far", kind=CacheKind.COMMAND, command=("cachix", "push", "mine")), [], URL)
    assert pushed[-1] == "Published by cachix push mine"


def test_a_trouble_names_the_path_its_faults_and_what_became_of_it() -> None:
    path = StorePath("/nix/store/00000000000000000000000000000000-hello")
    found = Trouble(path=path, faults=["Its archive\x1b[31m is cut off."], repair="It is in the store.", mended=True)
    assert trouble(found) == [path, "  Its archive is cut off.", "  It is in the store."]


def test_progress_is_a_bar_with_counts_and_soon_a_guess() -> None:
    assert progress(0, 0, 0, 0.0) == "[........................] 0 of 0 paths, 0 B"
    assert progress(6, 24, 2048, 1.0) == "[######..................] 6 of 24 paths, 2.0 KiB"
    assert progress(12, 24, 4096, 40.0) == "[############............] 12 of 24 paths, 4.0 KiB, about 40 s left"
    assert progress(24, 24, 4096, 40.0).startswith("[########################] 24 of 24 paths")


def test_whoever_is_not_the_server_is_sent_to_the_right_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_user(tmp_path)
    check_user(tmp_path / "absent")
    monkeypatch.setattr(os, "geteuid", lambda: 123_456)
    with pytest.raises(InputError, match="the server cannot read") as raised:
        check_user(tmp_path)
    assert raised.value.remedy.startswith("Work as that user: sudo -u ")
