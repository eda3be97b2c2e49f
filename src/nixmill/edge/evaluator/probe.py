"""What the installed Nix can do: its version, and whether its repl can evaluate purely. Asked once.

Source: `src/nix/repl.cc` of 2.8.0 sets `pure-eval` to false after options were read; later versions before.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from nixmill.core.evaluation import EvaluationFailedError, EvaluationSettings
from nixmill.edge.evaluator.launch import Launch, parse_version
from nixmill.edge.evaluator.process import not_started

OLDEST = (2, 8)


class Probe:
    """Answers from one installed Nix, remembered."""

    def __init__(self, environment: Mapping[str, str], program: str, hidden: tuple[Path, ...] = ()) -> None:
        """Ask `program`, found on the PATH of `environment`; what it then evaluates cannot read what is `hidden`."""
        self._environment = environment
        self._hidden = hidden
        self._program = program
        self._lock = asyncio.Lock()
        self._launch: Launch | None = None
        self._version = ""
        self._pure: bool | None = None

    async def launch(self) -> Launch:
        """Return how to start processes; raise `EvaluationFailedError` where Nix is too old."""
        async with self._lock:
            if self._launch is None:
                self._launch = await self._ask_version()
            return self._launch

    async def version(self) -> str:
        """Return the version as Nix writes it, such as `2.8.0`."""
        await self.launch()
        return self._version

    async def repl_is_pure(self) -> bool:
        """Say whether `nix repl` can evaluate flakes as they must be: without the time of day and the like."""
        launch = await self.launch()
        async with self._lock:
            if self._pure is None:
                self._pure = await self._ask_purity(launch)
            return self._pure

    async def _ask_version(self) -> Launch:
        status, out, said = await run([self._program, "--version"], self._environment)
        if status != 0:
            raise EvaluationFailedError(f"{self._program} --version failed with status {status}: {said.strip()}", said)
        self._version = out.strip().rsplit(" ", 1)[-1]
        version = parse_version(out)
        if version < OLDEST:
            raise EvaluationFailedError(f"Nix 2.8 or newer is needed, but {self._program} says {out.strip()!r}.", out)
        return Launch(program=self._program, environment=self._environment, version=version, hidden=self._hidden)

    async def _ask_purity(self, launch: Launch) -> bool:
        question = 'builtins.trace (if builtins ? currentTime then "impure" else "pure") null\n'
        with tempfile.TemporaryDirectory(prefix="nixmill-") as private:
            argv = launch.repl(EvaluationSettings(), "")
            _, _, said = await run(argv, launch.environ(private), question)
        return '"trace: pure"' in said


async def run(argv: Sequence[str], environment: Mapping[str, str], text: str = "") -> tuple[int, str, str]:
    """Run a program to its end; return status, stdout and stderr; raise `DoorError` where it cannot be started."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
    except OSError as error:
        raise not_started(argv[0], error) from error
    try:
        out, err = await process.communicate(text.encode())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")
