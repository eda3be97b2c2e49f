import re
from pathlib import Path

import msgspec
import pytest

from nixmill.config.projects_file import parse
from nixmill.config.server import ServerSettings
from nixmill.config.server_file import read_server_settings, settings_file
from nixmill.core.errors import InputError
from nixmill.nix.signature import secret_text
from tests.support.house import ROOT

FULL = """
url = "https://ci.example.org/"
listen = "unix:/run/nixmill/socket"
state = "/srv/nixmill"
database = "postgresql://nixmill@db.example.org/nixmill"
database-password = "database"
hooks-at-once = 2
users-add-projects = true
trusted-proxies = ["10.0.0.1"]
projects-file = "projects.toml"

[credentials]
database = "database.secret"
mail = "database.secret"

[smtp]
host = "mail.example.org"
port = 465
security = "tls"
password = "mail"

[[oidc]]
name = "forge"
title = "Our forge"
issuer = "https://forge.example.org"
client-id = "nixmill"
client-secret = "mail"

[[hook]]
name = "publish"
command = ["/usr/bin/publish", "--fast"]
match = "mill:main:*"
on = ["succeeded"]
timeout-s = 30

[retention]
run-days = 30
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "server.toml"
    path.write_text(text)
    secret = directory / "database.secret"
    secret.write_text("s3cret")
    secret.chmod(0o600)
    (directory / "projects.toml").touch()
    return path


def refused(directory: Path, text: str, **environ: str) -> str:
    with pytest.raises(InputError) as caught:
        read_server_settings(written(directory, text), environ)
    return str(caught.value)


def test_a_full_file_is_read_with_whole_paths(tmp_path: Path) -> None:
    found = read_server_settings(written(tmp_path, FULL), {})
    assert (found.url, found.state, found.hooks_at_once) == ("https://ci.example.org", Path("/srv/nixmill"), 2)
    assert found.projects_file == tmp_path / "projects.toml"
    assert found.credentials["database"] == tmp_path / "database.secret"
    assert found.smtp is not None and (found.smtp.port, found.smtp.sender) == (465, "nixmill@localhost")
    assert found.oidc[0].scopes == ("openid", "profile", "email")
    assert (found.hooks[0].command, found.hooks[0].timeout_s) == (("/usr/bin/publish", "--fast"), 30)
    assert (found.retention.run_days, found.retention.log_days) == (30, 90)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert read_server_settings(written(tmp_path, ""), {}) == ServerSettings()


def test_without_a_file_the_state_is_the_users_own() -> None:
    assert read_server_settings(None, {"HOME": "/home/a"}).state == Path("/home/a/.local/state/nixmill/server")
    assert read_server_settings(None, {"XDG_STATE_HOME": "/x"}).state == Path("/x/nixmill/server")
    assert read_server_settings(None, {"STATE_DIRECTORY": "/var/lib/n:/y"}).state == Path("/var/lib/n")


def test_all_mistakes_are_told_at_once_each_with_place_and_remedy(tmp_path: Path) -> None:
    said = refused(
        tmp_path,
        'lisen = "x"\nruns-at-once = 0\nhooks = []\n[smtp]\nhost = "m"\nport = "many"\n[[oidc]]\nname = "a"\n'
        '[[hook]]\nname = "h"\ncommand = []\nonn = []\n[retention]\nlog-days = -1\n',
    )
    for part in (
        "has 11 mistakes",
        "lisen: is no setting. Did you mean `listen`?",
        "runs-at-once: 0 should be greater than or equal to 1",
        "hooks: is no setting. Did you mean `[[hook]]`?",
        "[smtp] port: 'many' should be an integer",
        "[[oidc]] 1 issuer: is missing",
        "[[hook]] 1 onn: is no setting. Did you mean `on`?",
        "[[hook]] 1 command:",
        "[retention] log-days: -1",
    ):
        assert part in said, said


def test_what_a_value_is_called_here_is_told(tmp_path: Path) -> None:
    for kind, meant in (("forgejo", "gitea"), ("gitlb", "gitlab"), ("GitHub", "github")):
        said = refused(tmp_path, f'[[forge]]\nname = "f"\nurl = "https://f.example.org"\nkind = "{kind}"\n')
        assert f"Did you mean `{meant}`?" in said, said
    assert "Did you mean" not in refused(tmp_path, '[[forge]]\nname = "f"\nurl = "https://f.example.org"\nkind = "x"\n')


def test_what_is_well_formed_and_cannot_be_is_told_at_once_too(tmp_path: Path) -> None:
    said = refused(
        tmp_path,
        'url = "ftp://x"\nlisten = "nowhere"\nprojects-file = "none.toml"\n'
        'database = "postgresql://u:hunter2@h/d"\ndatabase-password = "gone"\n'
        '[credentials]\nlost = "lost.secret"\n[[hook]]\nname="a"\ncommand=["x"]\n[[hook]]\nname="a"\ncommand=["y"]\n',
    )
    assert "has 7 mistakes" in said
    assert "there is no credential 'gone' (there are: lost)" in said
    assert "[[hook]]: 'a' is there twice" in said
    assert "hunter2" not in said


def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    assert "hunter2" not in refused(tmp_path, 'database = ["hunter2"]\n[smtp]\nhost="m"\npassword = ["hunter2"]\n')


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606])
def test_a_credential_that_others_may_read_is_refused_with_what_to_type(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path, '[credentials]\na = "database.secret"\n')
    (tmp_path / "database.secret").chmod(mode)
    with pytest.raises(InputError, match=rf"open to others \(mode {mode:04o}\)\. Type: chmod 600 /"):
        read_server_settings(path, {})


def test_systemds_credentials_are_there_by_their_names(tmp_path: Path) -> None:
    given = tmp_path / "credentials"
    given.mkdir()
    (given / "database").write_text("x")
    (given / "database").chmod(0o440)
    path = written(tmp_path, 'database = "postgresql://u@h/d"\ndatabase-password = "database"\n')
    found = read_server_settings(path, {"CREDENTIALS_DIRECTORY": str(given)})
    assert found.credentials == {"database": given / "database"}


def test_options_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'listen = "127.0.0.1:1"\nruns-at-once = 9\n')
    environ = {"NIXMILL_LISTEN": "127.0.0.1:2", "NIXMILL_LOCAL_GIT": "false", "NIXMILL_TRUSTED_PROXIES": "a, b"}
    environ["NIXMILL_SMTP"] = "tables stand in a file only"
    found = read_server_settings(path, environ, {"listen": "127.0.0.1:3"})
    assert (found.listen, found.runs_at_once, found.local_git) == ("127.0.0.1:3", 9, False)
    assert found.trusted_proxies == ("a", "b")
    assert found.url == "http://127.0.0.1:3"
    assert read_server_settings(path, environ).listen == "127.0.0.1:2"


def test_a_server_for_others_must_say_its_address(tmp_path: Path) -> None:
    assert "url: is missing" in refused(tmp_path, 'listen = "0.0.0.0:8484"\n')


def test_which_file_is_read(tmp_path: Path) -> None:
    there, other = tmp_path / "a.toml", tmp_path / "b.toml"
    assert settings_file(None, {}, there) is None
    there.touch()
    assert settings_file(None, {}, there) == there
    assert settings_file(None, {"NIXMILL_CONFIG": str(other)}, there) == other
    assert settings_file(tmp_path, {"NIXMILL_CONFIG": str(other)}, there) == tmp_path
    with pytest.raises(InputError, match="no settings file"):
        read_server_settings(other, {})


def test_every_field_can_be_written(tmp_path: Path) -> None:
    """Fields that others add later must be of a kind that a file can hold."""
    text = "".join(f"{name.replace('_', '-')}-x = 1\n" for name in ServerSettings.__struct_fields__)
    assert refused(tmp_path, text).count("Did you mean") >= len(msgspec.structs.fields(ServerSettings)) - 2


BLOCKS = [
    block
    for name in ("server.md", "configuration.md", "notifications.md")
    for block in re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL)
    if "[evaluate]" not in block and "[watch]" not in block
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0])
def test_what_the_documentation_shows_is_understood(tmp_path: Path, block: str) -> None:
    if "[[project" in block:
        head = "" if "[[project]]" in block else '[[project]]\nname = "a"\nurl = "https://example.org/a"\n'
        assert parse(head + block).projects
        return
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in re.findall(r'(?:password|secret|token) = "([a-z-]+)"', block):
        (secrets / name).touch(mode=0o400)
    for name in re.findall(r'^keys = \["([^"]+)"', block, re.MULTILINE):
        (secrets / name).write_text(secret_text(name, bytes(32)))
        (secrets / name).chmod(0o400)
        block = re.sub(rf"^{name} = .*\n", "", block, flags=re.MULTILINE)
    here = re.sub(r'"/[^"]*/secrets/[^"]*"', '"database.secret"', block)
    assert read_server_settings(written(tmp_path, here), {"CREDENTIALS_DIRECTORY": str(secrets)})
