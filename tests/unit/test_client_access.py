import stat
from pathlib import Path

import pytest

from nixmill.cli.client import Access, check_address, find_access
from nixmill.cli.named import same_repository
from nixmill.cli.remembered import Remembered, recall, remember
from nixmill.cli.watch import project_path
from nixmill.core.errors import InputError
from nixmill.engine.passwords import hash_password, needs_rehash, verify

CI = "https://ci.example.org"


def test_the_option_wins_over_the_environment_and_that_over_the_last_sign_in(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    remember(environ, Remembered(server=CI, tokens={CI: "nm_kept"}))
    assert find_access(None, None, environ) == Access(server=CI, token="nm_kept")  # noqa: S106 - opens nothing
    other = environ | {"NIXMILL_SERVER": "https://other.example.org"}
    assert find_access(None, None, other) == Access(server="https://other.example.org")
    assert find_access("ci.example.org/r/41", None, other).token == "nm_kept"  # noqa: S105 - likewise
    (tmp_path / "token").write_text("nm_file\n")
    said = environ | {"NIXMILL_TOKEN": "nm_said"}
    assert find_access(None, None, said).token == "nm_said"  # noqa: S105 - likewise
    assert find_access(None, str(tmp_path / "token"), said).token == "nm_file"  # noqa: S105 - likewise


def test_a_token_goes_to_no_server_that_it_is_not_for(tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "NIXMILL_TOKEN": "nm_x"}
    remember(environ, Remembered(server=CI))
    evil = "https://evil.example.org"
    assert find_access(CI, None, environ, pasted=True).token
    assert not find_access(evil, None, environ, pasted=True).token
    assert find_access(evil, None, environ).token
    assert not find_access(evil, None, environ | {"NIXMILL_SERVER": CI}).token


def test_what_is_kept_only_this_user_can_read_and_can_be_replaced(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert recall(environ) == Remembered()
    for server in ("", CI):
        path = remember(environ, Remembered(server=server))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert recall(environ).server == CI
    assert [entry.name for entry in path.parent.iterdir()] == ["servers.json"]
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        recall(environ)


@pytest.mark.parametrize("said", ["", "ftp://x", "https://", "https://user:pass@x", "https://[", "http://x y"])
def test_what_is_no_address_is_refused(said: str) -> None:
    with pytest.raises(InputError):
        check_address(said)


def test_addresses_are_cut_to_their_host() -> None:
    assert check_address("ci.example.org") == CI
    assert check_address("https://CI.example.org:443/r/41?x#y") == CI
    assert check_address("http://127.0.0.1:8484/") == "http://127.0.0.1:8484"


def test_a_token_travels_unencrypted_within_this_machine_only() -> None:
    environ = {"NIXMILL_TOKEN": "nm_x", "HOME": "/nowhere"}
    assert find_access("http://localhost:1", None, environ).token
    assert find_access("http://[::1]:1", None, environ).token
    with pytest.raises(InputError, match="everybody on the way"):
        find_access("http://ci.lan", None, environ)
    assert find_access("http://ci.lan", None, environ | {"NIXMILL_PLAIN_HTTP": "1"}).token


def test_a_file_that_holds_no_token_is_refused_without_repeating_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret one\nsecret two\n")
    with pytest.raises(InputError) as caught:
        find_access(CI, str(tmp_path / "token"), {"HOME": "/nowhere"})
    assert "secret one" not in str(caught.value)


def test_a_repository_is_the_same_however_it_is_fetched() -> None:
    one = "https://git.example.org/a/mill.git"
    for other in ("git@git.example.org:a/mill.git", "ssh://git@GIT.example.org:2222/a/mill", "git.example.org:a/mill/"):
        assert same_repository(one, other)
    for other in ("https://git.example.org/b/mill.git", "https://example.org/a/mill.git", "/srv/a/mill.git"):
        assert not same_repository(one, other)
    assert same_repository("file:///srv/mill.git", "/srv/mill")


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a?b", "", "ä"])
def test_what_is_no_name_of_a_project_reaches_no_server(name: str) -> None:
    with pytest.raises(InputError):
        project_path(name)


def test_passwords() -> None:
    hashed = hash_password("correct horse")
    assert hashed.startswith("$argon2id$")
    assert verify(hashed, "correct horse")
    assert not verify(hashed, "Correct horse")
    assert not verify("", "nobody has this password")
    assert not verify("sha1:0123", "x")
    assert not needs_rehash(hashed)
    assert not needs_rehash("")
    assert needs_rehash("$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHQ$" + "A" * 43)
