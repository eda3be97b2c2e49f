import shlex
import subprocess

from nixmill.core.build_shell import start_script
from nixmill.nix.derivation import Derivation
from tests.fakes.store import make_path


def derivation(**environment: str) -> Derivation:
    return Derivation(outputs={}, input_drvs={}, input_srcs=(), environment=environment)


def run(script: str, command: str) -> str:
    done = subprocess.run(["bash", "-c", f"{script}\n{command}"], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_shell_sees_the_builds_variables_and_stands_in_its_directory(tmp_path: object) -> None:
    script = start_script(
        derivation(greeting="hello $HOME `id` 'x'"), str(tmp_path), {"out": make_path("x")}, "/bin:/usr/bin"
    )
    out = run(script, 'printf "%s\\n" "$greeting" "$PWD" "$out" "$NIX_BUILD_TOP" "$HOME"')
    assert out.splitlines() == [
        "hello $HOME `id` 'x'",
        str(tmp_path),
        f"{tmp_path}/outputs/out",
        str(tmp_path),
        "/homeless-shelter",
    ]


def test_names_that_are_no_variables_and_large_files_are_left_out(tmp_path: object) -> None:
    environment = {"a b; touch pwned": "x", "passAsFile": "big", "big": "B", "__json": "{}", "fine": "1"}
    script = start_script(derivation(**environment), str(tmp_path), {}, "/bin")
    assert "pwned" not in script
    assert "export big=" not in script
    assert f"export fine={shlex.quote('1')}" in script
