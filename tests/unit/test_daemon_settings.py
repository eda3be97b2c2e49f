import os
from pathlib import Path

import pytest

from nixmill.core.errors import InputError
from nixmill.edge.daemon import address
from nixmill.edge.daemon.address import SocketAddress, SshAddress, StdioAddress
from nixmill.edge.daemon.settings import DaemonSettings, build_options, install_hook, query_options
from nixmill.nix.operations import Options
from nixmill.nix.worker_protocol import DaemonFacts

OLD, NEW = DaemonFacts(minor=34, nix_version="2.8.0"), DaemonFacts(minor=38, nix_version="2.34.8", trusted=True)
SETTINGS = DaemonSettings(environment={}, hook_script="/state/decline-hook", substituters=("a", "b"))


def options_for(facts: DaemonFacts, *, local: bool = True) -> Options:
    return build_options(SETTINGS, facts, local=local, timeout_s=7, silence_s=3, log_bytes=9, cores=2, keep_failed=True)


def test_limits_become_settings_of_the_connection() -> None:
    options = options_for(NEW)

    assert (options.max_jobs, options.keep_going, options.max_silent_s, options.cores) == (1, True, 3, 2)
    assert options.overrides["timeout"] == "7"
    assert options.overrides["max-build-log-size"] == "9"
    assert options.keep_failed


def test_builds_fetch_nothing_and_questions_may() -> None:
    assert not options_for(NEW).substitute
    assert query_options(SETTINGS, NEW).substitute
    assert query_options(SETTINGS, NEW).overrides["substituters"] == "a b"


def test_caches_that_are_not_configured_are_left_to_the_daemon() -> None:
    overrides = query_options(DaemonSettings(environment={}), NEW).overrides

    assert not {"substituters", "trusted-public-keys"} & overrides.keys()


def test_an_empty_list_of_caches_means_none() -> None:
    assert query_options(DaemonSettings(environment={}, substituters=()), NEW).overrides["substituters"] == ""


def test_the_hook_is_switched_off_as_the_daemon_understands_it() -> None:
    assert options_for(NEW).overrides["build-hook"] == ""
    assert options_for(OLD).overrides["build-hook"] == "/state/decline-hook"
    assert "build-hook" not in options_for(OLD, local=False).overrides


def test_an_untrusted_user_sends_only_what_will_be_heard() -> None:
    overrides = options_for(DaemonFacts(minor=38, trusted=False)).overrides

    assert overrides.keys() == {"timeout", "build-poll-interval", "substituters"}


def test_directories_are_found_as_nix_finds_them() -> None:
    found = DaemonSettings.from_environment({"NIX_STORE_DIR": "/s", "NIX_STATE_DIR": "/v"}, nix_daemon="nd")

    assert (found.store_dir, found.state_dir, found.nix_daemon) == ("/s", "/v", "nd")
    assert found.socket_path == "/v/daemon-socket/socket"


def test_the_hook_is_written_once_and_can_be_run(tmp_path: Path) -> None:
    path = Path(install_hook(tmp_path / "state"))
    first = path.stat()

    assert install_hook(tmp_path / "state") == str(path)
    assert path.stat() == first
    assert path.stat().st_mode & 0o777 == 0o755


def settings_in(directory: Path, **environment: str) -> DaemonSettings:
    return DaemonSettings(
        environment=environment, state_dir=str(directory / "var"), socket_path=str(directory / "socket")
    )


def test_auto_spawns_a_daemon_where_the_store_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "socket").touch()

    assert address.parse("auto", settings_in(tmp_path)) == StdioAddress()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody with fewer rights for a moment")
def test_auto_takes_the_socket_where_the_store_may_not_be_written() -> None:
    settings = DaemonSettings(environment={}, state_dir="/root/nix", socket_path="/")
    os.seteuid(65534)
    try:
        assert address.parse("auto", settings) == SocketAddress("/")
    finally:
        os.seteuid(0)


def test_auto_honours_the_environment(tmp_path: Path) -> None:
    assert address.parse("auto", settings_in(tmp_path, NIX_REMOTE="daemon")) == SocketAddress(str(tmp_path / "socket"))
    assert address.parse("auto", settings_in(tmp_path, NIX_REMOTE="unix:///x")) == SocketAddress("/x")


@pytest.mark.parametrize(
    ("remote", "passed_on"),
    [("", "local"), ("daemon", "local"), ("unix:///x", "local"), ("local?root=/x", "local?root=/x")],
)
def test_a_spawned_daemon_opens_the_store_itself(tmp_path: Path, remote: str, passed_on: str) -> None:
    assert address.spawn_environment(settings_in(tmp_path, NIX_REMOTE=remote))["NIX_REMOTE"] == passed_on


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("ssh://host", SshAddress(host="host", socket_path=address.DEFAULT_SOCKET)),
        (
            "ssh-ng://me@host:22?ssh-key=/k&remote-store=unix:///s",
            SshAddress(host="host", user="me", port=22, key_file="/k", socket_path="/s"),
        ),
        ("ssh://[::1]:2200", SshAddress(host="::1", port=2200, socket_path=address.DEFAULT_SOCKET)),
    ],
)
def test_machines_behind_ssh_are_named_as_nix_names_them(text: str, parsed: SshAddress) -> None:
    assert address.parse(text, SETTINGS) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "bogus",
        "http://x",
        "unix://x",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://-u@h",
        "ssh://h:p",
        "ssh://h?remote-store=x",
    ],
)
def test_a_malformed_address_comes_with_a_remedy(text: str) -> None:
    with pytest.raises(InputError) as caught:
        address.parse(text, SETTINGS)

    assert caught.value.remedy


def test_only_this_machines_own_daemon_has_its_files_here() -> None:
    assert address.is_local(StdioAddress(), SETTINGS)
    assert address.is_local(SocketAddress(SETTINGS.socket_path), SETTINGS)
    assert not address.is_local(SocketAddress("/run/elsewhere"), SETTINGS)
    assert not address.is_local(SshAddress(host="h", socket_path="/s"), SETTINGS)
