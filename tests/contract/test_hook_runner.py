"""Hooks with real commands: how they end, what they see, what stays of them."""

# ruff: noqa: ASYNC240 - a test may wait for the disk

import asyncio
import contextlib
import errno
import json
import os
import resource
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog

from nixmill.core.errors import InputError
from nixmill.core.hook import Hook, HookRun, HookState
from nixmill.edge.hook_process import MARK
from nixmill.edge.hook_runner import CommandHookRunner
from nixmill.edge.system_clock import SystemClock

DOCUMENT = b'{"attribute":"x86_64-linux.hello","good":true}'


@pytest.fixture
def runner(tmp_path: Path) -> CommandHookRunner:
    return _runner(tmp_path)


def _runner(tmp_path: Path, **options: float) -> CommandHookRunner:
    log_bytes = int(options.pop("log_bytes", 1_000_000))
    return CommandHookRunner(
        tmp_path / "hooks",
        SystemClock(),
        structlog.get_logger(),
        grace_s=options.get("grace_s", 0.3),
        log_bytes=log_bytes,
    )


def _waiting() -> HookRun:
    return HookRun(id=str(uuid4()), hook="tell", command=(), run=7, project=1, attribute="x86_64-linux.hello")


async def _nothing() -> None:
    pass


async def _run(runner: CommandHookRunner, *command: str, timeout_s: float = 20.0) -> tuple[HookRun, str]:
    hook = Hook(name="tell", command=command, timeout_s=timeout_s)
    ended = await runner.run(hook, _waiting(), DOCUMENT, _nothing)
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert ended.ended_at >= ended.started_at
    return ended, (await runner.read_log(ended.id)).decode()


def _python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


async def test_a_hook_that_succeeds_has_an_exit_code_and_an_empty_log(runner: CommandHookRunner) -> None:
    ended, log = await _run(runner, "true")
    assert (ended.state, ended.exit_code, ended.signal, ended.errno) == (HookState.EXITED, 0, None, None)
    assert ended.command == ("true",)
    assert log == ""
    assert Path(runner.log_location(ended.id)).exists()


async def test_an_exit_code_is_kept(runner: CommandHookRunner) -> None:
    ended, _ = await _run(runner, "sh", "-c", "exit 85")
    assert (ended.state, ended.exit_code) == (HookState.EXITED, 85)


async def test_a_signal_is_no_exit_code(runner: CommandHookRunner) -> None:
    ended, _ = await _run(runner, "sh", "-c", "kill -TERM $$")
    assert (ended.state, ended.signal, ended.exit_code, ended.core_dumped) == (HookState.SIGNALLED, 15, None, False)
    assert not ended.timed_out


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_CORE)[1] == 0
    or Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii").startswith("|"),
    reason="this machine writes no core dumps",
)
async def test_a_core_dump_is_told(runner: CommandHookRunner) -> None:
    code = (
        "import os,resource as r; most=r.getrlimit(r.RLIMIT_CORE)[1];"
        "r.setrlimit(r.RLIMIT_CORE,(most,most)); os.kill(os.getpid(),3)"
    )
    ended, _ = await _run(runner, *_python(code))
    assert (ended.state, ended.signal, ended.core_dumped) == (HookState.SIGNALLED, signal.SIGQUIT, True)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/no/such/command",), errno.ENOENT),
        (("/etc/passwd",), errno.EACCES),
        (("/dev/null/x",), errno.ENOTDIR),
    ],
)
async def test_a_command_that_cannot_start_has_an_errno(
    runner: CommandHookRunner, command: tuple[str, ...], reason: int
) -> None:
    ended, log = await _run(runner, *command)
    assert (ended.state, ended.errno, ended.exit_code) == (HookState.COULD_NOT_START, reason, None)
    assert log == ""


async def test_both_outputs_are_one_log_in_order(runner: CommandHookRunner) -> None:
    _, log = await _run(runner, "sh", "-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done")
    assert log.splitlines() == ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3"]


async def test_there_is_nothing_to_read(runner: CommandHookRunner) -> None:
    _, log = await _run(runner, *_python("import sys; print(repr(sys.stdin.read()))"))
    assert log == "''\n"


async def test_arguments_are_passed_verbatim(runner: CommandHookRunner) -> None:
    """No shell and no interpolation (C12)."""
    nasty = ["$HOME", "${X}", "%s %n", "'\"`id`", "a b", ";exit 3", "*"]
    _, log = await _run(runner, *_python("import sys,json; print(json.dumps(sys.argv[1:]))"), *nasty)
    assert json.loads(log) == nasty


async def test_the_environment_is_small_and_names_the_document(
    runner: CommandHookRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    code = (
        "import os,json; e=dict(os.environ); p=e['NIXMILL_JSON']; d=open(p).read();"
        "print(json.dumps([e, d, oct(os.stat(p).st_mode & 0o777), os.getcwd(), os.getsid(0)==os.getpid()]))"
    )
    ended, log = await _run(runner, *_python(code))
    environment, document, mode, directory, leads_session = json.loads(log)
    environment.pop("LC_CTYPE", None)  # Python's own
    assert set(environment) == {"PATH", "HOME", "LANG", "NIXMILL_JSON", "NIXMILL_RUN", "NIXMILL_HOOK", MARK}
    assert (environment["NIXMILL_RUN"], environment["NIXMILL_HOOK"], environment[MARK]) == ("7", "tell", ended.id)
    assert document.encode() == DOCUMENT
    assert mode == "0o640"
    assert environment["HOME"] == directory
    assert leads_session
    assert not Path(directory).exists()


async def test_a_hook_that_takes_too_long_is_ended_politely(runner: CommandHookRunner) -> None:
    code = "trap 'echo bye; exit 4' TERM; echo here; while :; do sleep 0.05; done"
    ended, log = await _run(runner, "sh", "-c", code, timeout_s=0.5)
    assert (ended.state, ended.exit_code, ended.timed_out) == (HookState.EXITED, 4, True)
    assert (log.split()[0], log.split()[-1]) == ("here", "bye")


async def test_one_that_does_not_listen_is_killed_with_its_children(runner: CommandHookRunner) -> None:
    code = "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 0.05; done"
    ended, log = await _run(runner, "sh", "-c", code, timeout_s=0.5)
    assert (ended.state, ended.signal, ended.timed_out) == (HookState.SIGNALLED, signal.SIGKILL, True)
    await _gone(int(log))


@pytest.mark.parametrize("start", ["sleep 1000 & echo $!", "setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.5"])
async def test_what_goes_into_the_background_ends_with_the_hook(runner: CommandHookRunner, start: str) -> None:
    began = time.monotonic()
    ended, log = await _run(runner, "sh", "-c", start)
    assert (ended.state, ended.exit_code) == (HookState.EXITED, 0)
    await _gone(int(log))
    assert time.monotonic() - began < 10


async def test_cancelling_kills_the_group(runner: CommandHookRunner) -> None:
    started = asyncio.Event()

    async def tell() -> None:
        started.set()

    run = _waiting()
    hook = Hook(name="tell", command=("sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait; wait"))
    task = asyncio.create_task(runner.run(hook, run, DOCUMENT, tell))
    await started.wait()
    await _until(lambda: Path(runner.log_location(run.id)).stat().st_size > 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _gone(int(await runner.read_log(run.id)))


async def test_a_flood_of_output_is_cut_in_the_middle_and_the_log_says_so(tmp_path: Path) -> None:
    runner = _runner(tmp_path, log_bytes=100_000)
    _, log = await _run(runner, *_python("for n in range(100000): print(f'line {n}')\nprint('the end')"))
    written = sum(len(f"line {n}\n") for n in range(100000)) + len("the end\n")
    assert len(log) < 100_100
    assert log.startswith("line 0\nline 1\n")
    assert log.endswith("line 99999\nthe end\n")
    assert f"[nixmill: {written - 100_000:,} bytes of output are left out here]" in log


async def test_a_log_can_be_read_in_pieces_and_while_it_grows(runner: CommandHookRunner, tmp_path: Path) -> None:
    run, go = _waiting(), tmp_path / "go"
    code = f"echo first; while [ ! -e {go} ]; do sleep 0.02; done; echo second"
    task = asyncio.create_task(runner.run(Hook(name="t", command=("sh", "-c", code)), run, DOCUMENT, _nothing))
    await _until(
        lambda: Path(runner.log_location(run.id)).exists() and Path(runner.log_location(run.id)).stat().st_size
    )
    assert await runner.read_log(run.id) == b"first\n"
    go.touch()
    await task
    assert await runner.read_log(run.id, 6) == b"second\n"
    assert await runner.read_log(run.id, 2, 3) == b"rst"
    assert await runner.read_log(str(uuid4())) == b""


async def test_logs_are_deleted(runner: CommandHookRunner) -> None:
    ended, _ = await _run(runner, "true")
    await runner.delete_logs([ended.id, str(uuid4())])
    assert not Path(runner.log_location(ended.id)).exists()


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "x" * 36, "00000000-0000-0000-0000-00000000000G", "{%s}"])
async def test_only_a_uuid_leads_to_a_log(runner: CommandHookRunner, name: str) -> None:
    for wrong in (name, name.replace("%s", str(uuid4())), str(uuid4()).upper()):
        with pytest.raises(InputError):
            await runner.read_log(wrong)


async def test_files_have_their_final_mode_from_the_first_moment(runner: CommandHookRunner, tmp_path: Path) -> None:
    """Under a lax umask, with a watcher that looks all the time while many hooks start."""
    before = os.umask(0)
    try:
        with _watching(tmp_path / "hooks") as modes:
            await asyncio.gather(*(_run(runner, "sh", "-c", "echo x") for _ in range(20)))
    finally:
        os.umask(before)
    assert modes["file"] == {0o640}
    assert modes["directory"] == {0o750}


@contextlib.contextmanager
def _watching(top: Path) -> Iterator[dict[str, set[int]]]:
    modes: dict[str, set[int]] = {"file": set(), "directory": set()}
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for directory, _, files in os.walk(top):
                for path in [Path(directory), *(Path(directory, name) for name in files)]:
                    with contextlib.suppress(FileNotFoundError):
                        found = path.lstat()
                        modes["directory" if stat.S_ISDIR(found.st_mode) else "file"].add(stat.S_IMODE(found.st_mode))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield modes
    finally:
        stop.set()
        thread.join()


async def test_a_disk_that_is_in_the_way_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "hooks").write_text("a file where a directory should be")
    ended, log = await _run_broken(_runner(tmp_path))
    assert (ended.state, ended.errno) == (HookState.COULD_NOT_START, errno.ENOTDIR)
    assert log is None


async def _run_broken(runner: CommandHookRunner) -> tuple[HookRun, None]:
    return await runner.run(Hook(name="t", command=("true",)), _waiting(), DOCUMENT, _nothing), None


async def test_what_a_killed_server_left_is_cleaned_up(runner: CommandHookRunner, tmp_path: Path) -> None:
    mark, scratch = str(uuid4()), tmp_path / "hooks" / "scratch"
    (scratch / mark).mkdir(parents=True)
    environment = {"PATH": os.environ["PATH"], MARK: mark}
    left = await asyncio.create_subprocess_exec("sleep", "1000", env=environment, start_new_session=True)
    try:
        await runner.clean_up()
        assert await asyncio.wait_for(left.wait(), 10) == -signal.SIGKILL
    finally:
        with contextlib.suppress(ProcessLookupError):
            left.kill()
    assert list(scratch.iterdir()) == []


async def test_what_a_hook_leaves_is_deleted_and_what_it_links_to_is_not_touched(
    runner: CommandHookRunner, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o500)
    ended, _ = await _run(
        runner, "sh", "-c", f"mkdir -p $HOME/a/b; ln -s {kept} $HOME/a/link; chmod 500 $HOME/a/b $HOME/a"
    )
    assert ended.exit_code == 0
    assert list((tmp_path / "hooks" / "scratch").iterdir()) == []
    assert stat.S_IMODE(kept.stat().st_mode) == 0o500


async def test_no_descriptor_and_no_thread_is_left(runner: CommandHookRunner) -> None:
    await _run(runner, "true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        await _run(runner, "sh", "-c", "echo x")
        await _run(runner, "no-such-command-anywhere")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert [thread for thread in threading.enumerate() if thread.name == "nixmill-hook-output"] == []


async def _until(true: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def _gone(pid: int) -> None:
    """Wait for a process to be gone, or dead and waiting for a reaper that this container may not have."""

    def gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    await _until(gone)
