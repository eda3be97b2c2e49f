"""Finding Nix: the real one of this machine, and what people have instead of one."""

import asyncio
import os
import socket
import time
from pathlib import Path

import pytest

from nixmill.core.errors import InputError
from nixmill.core.installation import StoreAccess
from nixmill.doors import DoorError
from nixmill.edge.nix_installation import OLDEST, find_installation
from nixmill.edge.process_identity import identity
from nixmill.nix.version import Flavour
from tests.support.programs import script
from tests.support.scratch_store import ScratchStore


async def test_the_real_installation_is_understood(store: ScratchStore) -> None:
    found = await find_installation(store.environment)
    assert found.version.flavour is Flavour.NIX
    assert found.version.numbers >= OLDEST
    assert Path(found.program).name == "nix"
    assert found.store_dir == store.store_dir
    assert found.state_dir == store.environment["NIX_STATE_DIR"]
    assert found.daemon_socket == store.environment["NIX_DAEMON_SOCKET_PATH"]


async def test_its_settings_are_those_of_the_environment(store: ScratchStore) -> None:
    settings = (await find_installation(store.environment)).settings
    assert settings.substituters == ()
    assert settings.sandbox == "false"
    assert {"nix-command", "flakes"} <= settings.experimental_features
    assert settings.system.endswith(("-linux", "-darwin"))
    assert settings.cores >= 0
    assert settings.max_jobs >= 0


async def test_a_setting_that_is_changed_is_seen(store: ScratchStore) -> None:
    config = store.environment["NIX_CONFIG"] + "max-jobs = 7\nsystem-features = kvm here\nsandbox = relaxed\n"
    settings = (await find_installation(store.environment | {"NIX_CONFIG": config})).settings
    assert (settings.max_jobs, settings.sandbox) == (7, "relaxed")
    assert settings.system_features == {"kvm", "here"}


async def test_no_nix_gives_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no `nix` on PATH") as raised:
        await find_installation({"PATH": str(tmp_path)})
    assert "apt install" in raised.value.remedy
    assert "NixOS" in raised.value.remedy


async def test_a_nix_that_is_too_old_is_refused(tmp_path: Path) -> None:
    script(tmp_path, "nix", _PRETENDER.format(version="nix (Nix) 2.3.16"))
    with pytest.raises(InputError, match=r"Nix 2\.3\.16 is too old: nixmill needs Nix 2\.8"):
        await find_installation({"PATH": str(tmp_path)})


_PRETENDER = """
case "$*" in
  --version) echo '{version}' ;;
  *show*) printf 'system = x\\ncores = 1\\nmax-jobs = 2\\nsandbox = true\\n' ;;
esac"""


@pytest.mark.parametrize(
    ("printed", "flavour"),
    [
        ("nix (Lix, like Nix) 2.93.3", Flavour.LIX),
        ("nix (Determinate Nix 3.11.1) 2.31.1", Flavour.DETERMINATE),
        ("nix (Nix) 2.35.0pre20261101_abcdef", Flavour.NIX),
    ],
)
async def test_relatives_of_nix_are_recognised(tmp_path: Path, printed: str, flavour: Flavour) -> None:
    script(tmp_path, "nix", _PRETENDER.format(version=printed))
    found = await find_installation({"PATH": str(tmp_path)})
    assert found.version.flavour is flavour
    assert found.settings.sandbox == "true"


async def test_a_nix_that_no_longer_knows_show_config_is_asked_the_new_way(tmp_path: Path) -> None:
    refusing = _PRETENDER.format(version="nix (Nix) 2.40.0").replace("*show*)", "*show-config*) exit 1 ;;\n  *show*)")
    script(tmp_path, "nix", refusing)
    assert (await find_installation({"PATH": str(tmp_path)})).settings.max_jobs == 2


async def test_something_else_called_nix_is_not_taken_for_it(tmp_path: Path) -> None:
    script(tmp_path, "nix", _PRETENDER.format(version="nix, the wireless toolkit"))
    with pytest.raises(DoorError, match="not a Nix that nixmill knows"):
        await find_installation({"PATH": str(tmp_path)})


async def test_a_nix_that_fails_is_quoted(tmp_path: Path) -> None:
    script(tmp_path, "nix", "echo 'error: syntax error in nix.conf' >&2; exit 1")
    with pytest.raises(DoorError, match=r"syntax error in nix\.conf"):
        await find_installation({"PATH": str(tmp_path)})


async def test_cancelling_kills_a_nix_that_hangs(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    script(tmp_path, "nix", f"echo $$ > {started}; exec sleep 1000")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    async with asyncio.TaskGroup() as group:
        task = group.create_task(find_installation(environment))
        pids = (await asyncio.to_thread(started.read_text)).split()
        task.cancel()
    assert pids
    assert not any(map(identity, map(int, pids)))


async def test_store_access_is_what_nix_would_choose(tmp_path: Path, store: ScratchStore) -> None:
    state, at = tmp_path / "state", tmp_path / "sock"
    environment = store.environment | {"NIX_STATE_DIR": str(state), "NIX_DAEMON_SOCKET_PATH": str(at)}
    state.mkdir()
    assert (await find_installation(environment)).access is StoreAccess.DIRECT
    state.rmdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(at))
        assert (await find_installation(environment)).access is StoreAccess.DAEMON


async def test_a_store_that_is_named_is_made_by_anyone_who_may(
    tmp_path: Path, store: ScratchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    state = {"NIX_STATE_DIR": str(tmp_path / "var/nix"), "NIX_DAEMON_SOCKET_PATH": str(tmp_path / "sock")}
    assert (await find_installation(store.environment | state)).access is StoreAccess.DIRECT
    nowhere = {"NIX_STATE_DIR": "/proc/self/var/nix"}
    assert (await find_installation(store.environment | state | nowhere)).access is StoreAccess.NONE


async def test_an_unreachable_substituter_costs_no_time(store: ScratchStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        config = store.environment["NIX_CONFIG"] + f"substituters = http://127.0.0.1:{black_hole.getsockname()[1]}\n"
        before = time.monotonic()
        found = await find_installation(store.environment | {"NIX_CONFIG": config})
    assert len(found.settings.substituters) == 1
    assert time.monotonic() - before < 5
