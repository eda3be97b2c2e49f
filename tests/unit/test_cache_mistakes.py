from pathlib import Path

import pytest

from nixmill.config.server import ServerSettings
from nixmill.config.server_file import read_server_settings
from nixmill.core.errors import InputError
from nixmill.nix.signature import secret_text

KEYS = {
    "one": secret_text("main-1", b"1" * 32),
    "two": secret_text("main-2", b"2" * 32),
    "other-one": secret_text("main-1", b"3" * 32),
    "pulls": secret_text("pulls-1", b"4" * 32),
    "token": "a token",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, text in KEYS.items():
        file = tmp_path / f"{name}.secret"
        file.touch(mode=0o600)
        file.write_text(text)
    return tmp_path


def read(directory: Path, text: str) -> ServerSettings:
    file = directory / "server.toml"
    credentials = "".join(f'{name} = "{name}.secret"\n' for name in KEYS)
    file.write_text(f'state = "state"\n{text}\n[credentials]\n{credentials}')
    return read_server_settings(file, {})


def mistakes(directory: Path, text: str) -> str:
    with pytest.raises(InputError) as raised:
        read(directory, text)
    return str(raised.value)


def cache(name: str, *lines: str) -> str:
    return "\n".join(["[[cache]]", f'name = "{name}"', *lines, ""])


def test_caches_of_every_kind_are_read(directory: Path) -> None:
    settings = read(
        directory,
        cache("main", 'keys = ["one"]', 'directory = "shelf"', "max-days = 30")
        + cache("served", 'kind = "store"', 'keys = ["two"]')
        + cache("bucket", 'kind = "s3"', 'bucket = "nix-cache"', 'prefix = "ci/main"', 'keys = ["one", "two"]')
        + cache("pulls", 'results = "pull-request"', 'keys = ["pulls"]', "private = true", 'readers = ["token"]')
        + cache("far", 'kind = "copy"', 'url = "ssh-ng://nix@far.example.org"')
        + cache("cachix", 'kind = "command"', 'command = ["cachix", "push", "mine"]', 'environment = ["token"]')
        + '[roots]\ndirectory = "roots"\nkeep = 2\n',
    )
    assert [one.name for one in settings.caches] == ["main", "served", "bucket", "pulls", "far", "cachix"]
    assert settings.caches[0].directory == directory / "shelf"
    assert settings.roots.directory == directory / "roots"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "a b", "ü", "x" * 65])
def test_a_name_is_part_of_an_address(directory: Path, name: str) -> None:
    assert "cannot be the name of a cache" in mistakes(directory, cache(name))


def test_a_name_stands_for_one_cache(directory: Path) -> None:
    said = mistakes(directory, cache("main", 'directory = "a"') + cache("Main", 'directory = "b"'))
    assert "'main' is there twice" in said


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (['kind = "s3"'], "bucket: is missing"),
        (['kind = "s3"', 'bucket = "https://x"'], "is no name of a bucket"),
        (['kind = "s3"', 'bucket = "abc"', 'prefix = "../up"'], "is no prefix"),
        (['kind = "s3"', 'bucket = "abc"', 'access-key = "token"'], "secret-key: is missing"),
        (['kind = "s3"', 'bucket = "abc"', 'endpoint = "s3.example.org"'], "endpoint: is no address"),
        (['kind = "copy"'], "url: is missing"),
        (['kind = "copy"', 'url = "https://me:hunter2@example.org"'], "a password may not stand in it"),
        (['kind = "copy"', 'url = "ftp://example.org"'], "url: is no address"),
        (['kind = "command"'], "command: is missing"),
        (['kind = "command"', 'command = ["push"]', 'environment = ["9x"]'], "cannot be a variable"),
        (['kind = "store"', 'format = "cas"'], "`cas` is for `disk` and `s3`"),
        (['bucket = "abc"'], "bucket: means nothing for a cache of kind `disk` (only for `s3`)"),
        (['kind = "command"', 'command = ["push"]', 'keys = ["one"]'], "keys: means nothing"),
        (['keys = ["absent"]'], "there is no credential 'absent'"),
        (['keys = ["token"]'], "the credential 'token' is no secret key: A key is written NAME:BASE64"),
        (['keys = ["one", "other-one"]'], "two keys are called 'main-1'"),
        (["private = true"], "nobody could read this cache"),
        (['readers = ["token"]'], "everybody may read this cache"),
        (["compression-level = 20"], "20 is no level of zstd"),
        (["max-days = -1"], "max-days: -1.0 makes no sense"),
        (["grace-hours = nan"], "grace-hours: nan makes no sense"),
        (["max-paths = -5"], "max-paths: -5 makes no sense"),
        (['directory = "state"'], "holds other files of this server"),
        (['directory = "."'], "holds other files of this server"),
        (['directory = "state/logs"'], "is among the server's own files"),
    ],
)
def test_nonsense_is_told(directory: Path, lines: list[str], sentence: str) -> None:
    said = mistakes(directory, cache("main", *lines))
    assert sentence in said
    assert "hunter2" not in said


def test_a_key_that_others_can_read_is_refused(directory: Path) -> None:
    (directory / "one.secret").chmod(0o644)
    assert "is open to others (mode 0644)" in mistakes(directory, cache("main", 'keys = ["one"]'))


def test_no_key_signs_results_of_two_classes(directory: Path) -> None:
    text = cache("main", 'keys = ["one"]') + cache("pulls", 'results = "pull-request"', 'keys = ["one"]')
    said = mistakes(directory, text)
    assert "one key signs for main (branch results), pulls (pull-request results)" in said
    assert KEYS["one"] not in said
    read(directory, cache("main", 'keys = ["one"]') + cache("copy", 'keys = ["one"]'))


def test_two_caches_do_not_call_different_keys_the_same(directory: Path) -> None:
    said = mistakes(directory, cache("main", 'keys = ["one"]') + cache("more", 'keys = ["other-one"]'))
    assert "several different keys are called 'main-1'" in said


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (['directory = "here"'], ['directory = "here"']),
        (['directory = "here"'], ['directory = "./there/../here/"']),
        (['directory = "here"'], ['directory = "here/inner"']),
        (['directory = "state/caches/pulls"'], []),
        (['kind = "s3"', 'bucket = "abc"'], ['kind = "s3"', 'bucket = "abc"']),
        (['kind = "s3"', 'bucket = "abc"'], ['kind = "s3"', 'bucket = "abc"', 'prefix = "pulls"']),
        (['kind = "s3"', 'bucket = "abc"', 'prefix = "a/"'], ['kind = "s3"', 'bucket = "abc"', 'prefix = "a"']),
    ],
)
def test_what_pull_requests_built_stands_beside_nothing_else(directory: Path, one: list[str], other: list[str]) -> None:
    text = cache("main", *one) + cache("pulls", 'results = "pull-request"', *other)
    assert "pulls and main stand in each other's" in mistakes(directory, text)


def test_prefixes_that_begin_alike_are_two_places(directory: Path) -> None:
    kind = ['kind = "s3"', 'bucket = "abc"']
    read(directory, cache("main", *kind, 'prefix = "a"') + cache("pulls", *kind, 'prefix = "ab"'))


def test_all_mistakes_are_told_at_once(directory: Path) -> None:
    text = cache("a b", 'kind = "s3"', "compression-level = 0") + "[roots]\nkeep = 0\ngone-days = -1\n"
    said = mistakes(directory, text)
    assert "has 5 mistakes" in said
    assert "the newest generation is always kept" in said
    assert "[roots] gone-days: -1.0 makes no sense" in said


def test_fewer_generations_than_the_usual_make_no_sense_as_the_most(directory: Path) -> None:
    assert "keep-max: is less than `keep` (20)" in mistakes(directory, "[roots]\nkeep = 20\n")
