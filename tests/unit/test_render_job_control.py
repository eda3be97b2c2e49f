"""Ctrl-Z, with a real process on a real terminal: the shell gets it back clean, and the region comes again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from nixmill.cli.render.job_control import stop_and_resume

ROOT = Path(__file__).parent.parent.parent
PROGRAM = f"""
import signal, sys
from nixmill.cli.render.choose import make_renderer
from nixmill.cli.render.job_control import {stop_and_resume.__name__}
from tests.support.run_events import planned, started
renderer = make_renderer(mode="live", environ={{"TERM": "xterm", "LANG": "C.UTF-8"}}, now=0.0)
signal.signal(signal.SIGTSTP, lambda *_: stop_and_resume(renderer))
renderer.handle(started())
renderer.handle(planned())
renderer.tick(1.0)
sys.stdin.readline()
renderer.close()
"""


def read_until(fd: int, mark: str) -> str:
    """Read until `mark` has come; fail where the program ended before."""
    data = b""
    while mark.encode() not in data:
        data += os.read(fd, 65536)
    return data.decode()


def test_stopped_it_leaves_the_terminal_clean_and_continued_it_draws_again() -> None:
    ours, theirs = os.openpty()
    environ = {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=theirs, stderr=theirs, env=environ, cwd=ROOT) as process:
        os.close(theirs)  # so that reading ends where the program does
        read_until(ours, "∑")
        process.send_signal(signal.SIGTSTP)
        assert read_until(ours, "\x1b[?25h").index("\x1b[J") >= 0
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        process.send_signal(signal.SIGCONT)
        assert "\x1b[?25l" in read_until(ours, "∑")
        os.write(ours, b"\n")
        read_until(ours, "\x1b[?25h")
        assert process.wait(timeout=30) == 0
    os.close(ours)
