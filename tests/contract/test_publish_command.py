"""Publishing by a configured command: real processes."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nixmill.doors import DoorError
from nixmill.edge.publish_command import CommandDestination
from nixmill.nix.path_info import PathInfo
from tests.fakes.destination import NoContents
from tests.fakes.store import FakeStore, make_path

Make = Callable[..., CommandDestination]
TOKENS = {"TOKEN": "very-secret"}


@pytest.fixture
def infos() -> list[PathInfo]:
    store = FakeStore()
    leaf = store.add(make_path("leaf"))
    store.add(make_path("top"), references=[leaf])
    return list(store.contents.values())


@pytest.fixture
def command(tmp_path: Path) -> Make:
    def make(script: str, *, timeout_s: float = 30.0, **secrets: str) -> CommandDestination:
        environment = {"PATH": os.environ["PATH"], "NIX_REMOTE": "daemon", "SECRET_OF_THE_SERVER": "s"}
        words = ("/bin/sh", "-c", script)
        return CommandDestination(words, tmp_path / "work", environment, secrets, timeout_s=timeout_s)

    return make


async def test_paths_come_one_a_line_in_their_order(command: Make, infos: list[PathInfo], tmp_path: Path) -> None:
    cache = command("cat > got; echo done")
    pushed = await cache.push(infos, NoContents())
    assert (tmp_path / "work/got").read_text() == "".join(f"{info.path}\n" for info in infos)
    assert pushed.new == {info.path for info in infos}
    assert (pushed.faults, pushed.sent_bytes) == ({}, 0)
    assert await cache.lacks([info.path for info in infos]) == {info.path for info in infos}


async def test_it_sees_little_of_our_environment_and_its_credentials(
    command: Make, infos: list[PathInfo], tmp_path: Path
) -> None:
    await command("env | sort > got", **TOKENS).push(infos, NoContents())
    names = {line.partition("=")[0] for line in (tmp_path / "work/got").read_text().splitlines()}
    assert {"TOKEN", "NIX_REMOTE", "HOME", "PATH"} <= names
    assert "SECRET_OF_THE_SERVER" not in names
    assert oct((tmp_path / "work").stat().st_mode & 0o777) in {"0o750", "0o700"}


async def test_a_failure_tells_the_last_lines_without_secrets(command: Make, infos: list[PathInfo]) -> None:
    script = r"""for n in $(seq 2000); do echo line $n; done; printf '\033[31mno: %s\033[0m\n' "$TOKEN" >&2; exit 3"""
    pushed = await command(script, **TOKENS).push(infos, NoContents())
    assert pushed.faults.keys() == {info.path for info in infos}
    sentence = pushed.faults[infos[0].path]
    assert "with exit code 3" in sentence
    assert sentence.endswith("line 2000 / no: [secret]")
    assert len(sentence) < 1_000
    assert not pushed.new


async def test_a_signal_is_told(command: Make, infos: list[PathInfo]) -> None:
    pushed = await command("kill -9 $$").push(infos, NoContents())
    assert "by signal 9; it said nothing" in pushed.faults[infos[0].path]


async def test_a_command_that_is_not_there_is_the_cache_s_trouble(infos: list[PathInfo], tmp_path: Path) -> None:
    cache = CommandDestination(["/no/such/program"], tmp_path, {}, {})
    with pytest.raises(DoorError, match="could not be started") as caught:
        await cache.push(infos, NoContents())
    assert caught.value.retryable


async def test_one_that_takes_too_long_is_stopped_with_its_children(
    command: Make, infos: list[PathInfo], tmp_path: Path
) -> None:
    cache = command("sleep 600 & echo $! > child; echo still at it; wait", timeout_s=0.5)
    with pytest.raises(DoorError, match=r"0\.5 seconds.*still at it"):
        await cache.push(infos, NoContents())
    await until_gone(int((tmp_path / "work/child").read_text()))


async def test_cancelling_ends_it(command: Make, infos: list[PathInfo], tmp_path: Path) -> None:
    task = asyncio.create_task(command("echo $$ > pid.new; mv pid.new pid; sleep 600").push(infos, NoContents()))
    pid = tmp_path / "work/pid"
    await until(pid.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(int(pid.read_text()))


async def test_one_that_does_not_read_its_paths_is_fine(command: Make, infos: list[PathInfo]) -> None:
    many = infos * 20_000
    assert (await command("exit 0").push(many, NoContents())).new


SCRIPT = """
import asyncio, sys
from pathlib import Path
from nixmill.edge.publish_command import CommandDestination
from tests.fakes.destination import NoContents
from tests.fakes.store import FakeStore, make_path
store = FakeStore()
store.add(make_path("x"))
cache = CommandDestination(["/bin/sh", "-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 600"],
                           Path(sys.argv[1]), {}, {})
asyncio.run(cache.push(list(store.contents.values()), NoContents()))
"""


async def test_it_dies_with_us(tmp_path: Path) -> None:
    ours = await asyncio.create_subprocess_exec(sys.executable, "-c", SCRIPT, str(tmp_path), cwd=Path.cwd())
    await until((tmp_path / "pid").exists)
    ours.kill()
    await ours.wait()
    await until_gone(int((tmp_path / "pid").read_text()))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about within 20 s"
        await asyncio.sleep(0.01)


async def until_gone(pid: int) -> None:
    def gone() -> bool:
        try:
            return " Z " in Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True

    await until(gone)
