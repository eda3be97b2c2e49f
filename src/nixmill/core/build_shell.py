"""The environment a failed build saw, as a script for a shell that starts in its kept directory.

What Nix sets: `src/libstore/build/derivation-builder.cc` (Nix 2.34), `initEnv`. Values are hostile data from the
repository; they are quoted for the shell and nothing in them is run unless the person runs it.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Final

from nixmill.nix.derivation import Derivation
from nixmill.nix.store_path import StorePath

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NOT_PASSED: Final = frozenset({"__json", "passAsFile"})


def build_environment(
    derivation: Derivation, directory: str, outputs: Mapping[str, StorePath | None]
) -> dict[str, str]:
    """Return the variables of the build; output paths point into the kept directory, where they can be written."""
    by_file = frozenset(derivation.environment.get("passAsFile", "").split())
    variables = {
        name: value
        for name, value in derivation.environment.items()
        if _VARIABLE.match(name) and name not in _NOT_PASSED and name not in by_file
    }
    variables |= {name: f"{directory}/outputs/{name}" for name in outputs if _VARIABLE.match(name)}
    temporary = dict.fromkeys(("NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP"), directory)
    fixed = {"HOME": "/homeless-shelter", "NIX_STORE": "/nix/store", "PWD": directory}
    return variables | temporary | fixed


def start_script(derivation: Derivation, directory: str, outputs: Mapping[str, StorePath | None], search: str) -> str:
    """Return what bash reads first: the build's variables, then a greeting that says where one is.

    `search` is the PATH of the person, appended so that tools are at hand; the build itself had none of it.
    """
    variables = build_environment(derivation, directory, outputs)
    path = ":".join(filter(None, (variables.pop("PATH", ""), search)))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(variables.items())]
    lines += [
        f"export PATH={shlex.quote(path)}",
        f"mkdir -p {shlex.quote(directory + '/outputs')}",
        f"cd {shlex.quote(directory)}",
        "[ -e env-vars ] && . ./env-vars 2>/dev/null",
        f'export PATH="$PATH":{shlex.quote(search)}',
        "PS1='[failed build] \\w \\$ '",
    ]
    return "\n".join(lines) + "\n"
