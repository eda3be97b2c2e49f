"""Tries out the sandbox: one tiny real build whose builder a working sandbox hides.

The builder is a script outside the store. Where builds are isolated, Nix cannot even start it; where they are not, it
runs. That needs no setting overridden and no shell in the sandbox, and tells what really happens to builds.
"""

import asyncio
import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nixmill.core.doctor import SandboxTrial

TIMEOUT_S: Final = 60.0
_HIDDEN: Final = "no such file or directory"
_EXPRESSION: Final = """
{ name, system, builder }:
derivation { inherit name system builder; preferLocalBuild = true; allowSubstitutes = false; }
"""


async def try_sandbox(nix_build: str, system: str, environment: Mapping[str, str]) -> tuple[SandboxTrial, str]:
    """Build, and say how it went; the second part holds Nix's own last words where it was `BROKEN`."""
    with tempfile.TemporaryDirectory(prefix="nixmill-sandbox-") as directory:
        builder = _builder(Path(directory))
        return await _build(nix_build, system, builder, environment)


def _builder(directory: Path) -> Path:
    """Make a program that any build user may start."""
    directory.chmod(0o755)
    builder = directory / "builder"
    builder.write_text('#!/bin/sh\necho seen > "$out"\n')
    builder.chmod(0o755)
    return builder


async def _build(
    nix_build: str, system: str, builder: Path, environment: Mapping[str, str]
) -> tuple[SandboxTrial, str]:
    name = f"nixmill-sandbox-trial-{secrets.token_hex(8)}"
    process = await asyncio.create_subprocess_exec(
        *[nix_build, "--no-out-link", "--expr", _EXPRESSION, "--argstr", "name", name],
        *["--argstr", "system", system, "--argstr", "builder", str(builder)],
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, err = await process.communicate()
    except TimeoutError:
        return SandboxTrial.BROKEN, f"it did not end within {TIMEOUT_S:.0f} s."
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return _verdict(process.returncode, err.decode(errors="replace"), builder)


def _verdict(status: int | None, said: str, builder: Path) -> tuple[SandboxTrial, str]:
    if status == os.EX_OK:
        return SandboxTrial.OPEN, ""
    hidden = any(str(builder) in line and _HIDDEN in line.lower() for line in said.splitlines())
    if hidden:
        return SandboxTrial.ISOLATED, ""
    return SandboxTrial.BROKEN, said.strip().splitlines()[-1] if said.strip() else f"exit status {status}."
