"""Ctrl-Z, with a real process on a real terminal: the shell gets it back clean, and the region comes again."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from nixmill.cli.render.job_control import stop_and_resume

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60
PROGRAM = f"""
import asyncio, signal
from nixmill.cli.render.choose import make_renderer
from nixmill.cli.render.job_control import {stop_and_resume.__name__}
from tests.support.run_events import planned, started

async def main():
    renderer = make_renderer(mode="live", environ={{"TERM": "xterm", "LANG": "C.UTF-8"}}, now=0.0)
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTSTP, {stop_and_resume.__name__}, renderer)
    loop.add_reader(0, typed.set)
    renderer.handle(started())
    renderer.handle(planned())
    renderer.tick(1.0)
    await typed.wait()
    renderer.close()

asyncio.run(main())
"""


def read_until(fd: int, mark: str) -> str:
    """Read until `mark` has come; fail where the program ended before or says nothing for long."""
    data = b""
    while mark.encode() not in data:
        ready, _, _ = select.select([fd], [], [], PATIENCE_S)
        assert ready, f"no {mark!r} in {data!r}"
        data += os.read(fd, 65536)
    return data.decode()


def test_stopped_it_leaves_the_terminal_clean_and_continued_it_draws_again() -> None:
    ours, theirs = os.openpty()
    environ = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=theirs, stderr=theirs, env=environ, cwd=ROOT) as process:
        os.close(theirs)  # so that reading ends where the program does
        try:
            read_until(ours, "∑")
            process.send_signal(signal.SIGTSTP)
            assert "\x1b[J" in read_until(ours, "\x1b[?25h")
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            process.send_signal(signal.SIGCONT)
            assert "\x1b[?25l" in read_until(ours, "∑")
            os.write(ours, b"\n")
            read_until(ours, "\x1b[?25h")
            assert process.wait(timeout=PATIENCE_S) == 0
        finally:
            process.kill()
            os.close(ours)
