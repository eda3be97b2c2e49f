"""Ctrl-Z: the terminal is handed to the shell clean, and taken back when the program goes on."""

import os
import signal

from nixmill.cli.render.renderer import Renderer


def stop_and_resume(renderer: Renderer) -> None:
    """Stop this process as SIGTSTP asks, with a clean terminal; return when it is continued.

    Register it on the event loop: a handler of Python's own can be held up by a system call that waits.
    """
    renderer.suspend()
    os.kill(os.getpid(), signal.SIGSTOP)
    renderer.resume()
