"""`nixmill run` as a person uses it: the whole program, real git, real Nix, a scratch store."""

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.support.program import NIXMILL, Project, flake, job
from tests.support.scratch_store import ScratchStore


@pytest.fixture
def project(tmp_path: Path, fresh_store: ScratchStore) -> Project:
    top = tmp_path / "mill"
    top.mkdir()
    return Project(top, fresh_store)


def outcomes(report: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {attribute["attribute"].rpartition(".")[2]: attribute["outcome"] for attribute in report["attributes"]}


def test_a_good_flake_passes_and_its_outputs_are_there(project: Project) -> None:
    project.commit(flake__nix=flake(one=job("one"), two=job("two")))
    done = project.nixmill("run", "--json")
    assert done.code == 0, done.err
    assert outcomes(done.report) == {"one": "succeeded", "two": "succeeded"}
    paths = [path for attribute in done.report["attributes"] for path in attribute["outputs"].values()]
    assert all(Path(path).read_text() == "made\n" for path in paths)
    assert done.report["verdict"] == "passed"


def test_a_failure_is_exit_code_1_names_the_culprit_and_offers_commands(project: Project) -> None:
    bad = job("bad", "echo the last words; exit 37")
    project.commit(flake__nix=flake(bad=bad, victim=job("victim", "true", f"dep = {bad};"), fine=job("fine")))
    done = project.nixmill("run")
    assert done.code == 1
    assert "exit status 37" in done.err
    assert "the last words" in done.err
    assert "nixmill log" in done.err
    assert "1 depends on it" in done.err or "1 depend on it" in done.err
    log = project.nixmill("log", "victim")
    assert (log.code, log.out) == (0, "the last words\n")


def test_an_evaluation_error_is_exit_code_3_and_everything_else_is_built(project: Project) -> None:
    project.commit(flake__nix=flake(bad='throw "no way"', odd="1 + {}", fine=job("fine")))
    done = project.nixmill("run", "--json")
    assert done.code == 3
    assert outcomes(done.report) == {"fine": "succeeded"}
    assert {error["attribute"].rpartition(".")[2]: error["fault"] for error in done.report["errors"]} == {
        "bad": "throw",
        "odd": "type error",
    }
    assert all(error["position"].startswith("flake.nix:") for error in done.report["errors"])


def test_what_is_left_out_for_its_system_is_said(project: Project) -> None:
    text = flake(one=job("one")).replace("checks.x86_64-linux", "checks.aarch64-darwin", 1)
    project.commit(
        flake__nix=text,
        release__nix=f'{{ a = {job("a")}; b = {job("b", extra="")} // {{ system = "riscv64-linux"; }}; }}',
    )
    assert "Jobs for aarch64-darwin are left out" in project.nixmill("run").err
    done = project.nixmill("run", "release.nix", "--json")
    assert outcomes(done.report) == {"a": "succeeded"}
    assert "Jobs for riscv64-linux are left out" in done.err


def test_files_attributes_arguments_and_expressions_are_targets_too(project: Project) -> None:
    project.commit(release__nix='{ word ? "x" }: { a.b = ' + job("inner", "echo $word > $out", "inherit word;") + "; }")
    done = project.nixmill(
        "run", "release.nix", "-A", "a", "--argstr", "word", "hello there", "--force-recurse", "--json"
    )
    assert done.code == 0, done.err
    (attribute,) = done.report["attributes"]
    assert attribute["path"] == ["a", "b"]
    assert Path(attribute["outputs"]["out"]).read_text() == "hello there\n"
    again = project.nixmill("run", "-E", f"{{ e = {job('e')}; }}", "--json")
    assert outcomes(again.report) == {"e": "succeeded"}


def test_only_what_changed_is_built_and_why_says_down_to_the_source(project: Project) -> None:
    lib = job("lib", "read line < $src; echo $line > $out", "src = ./lib.txt;")
    both = flake(app=job("app", "echo app > $out", f"lib = {lib};"), other=job("other"))
    first = project.commit(flake__nix=both, lib__txt="one\n")
    assert project.nixmill("run").code == 0
    project.commit(lib__txt="two\n")
    done = project.nixmill("run", "--json")
    assert done.code == 0
    changes = {one["attribute"].rpartition(".")[2]: one["change"] for one in done.report["attributes"]}
    assert changes == {"app": "changed", "other": "same"}
    assert done.report["base"] == first
    built = {attempt["name"] for attempt in done.report["attempts"]}
    assert built == {"lib", "app"}
    why = project.nixmill("why", "app")
    assert why.code == 0
    assert "lib.txt" in why.out
    assert first[:12] in why.out
    diff = project.nixmill("diff", first, "HEAD")
    assert "changed" in diff.out
    assert "lib.txt" in diff.out


def test_a_second_run_builds_nothing(project: Project) -> None:
    project.commit(flake__nix=flake(one=job("one")))
    project.nixmill("run")
    done = project.nixmill("run", "--json")
    assert (done.code, done.report["attempts"]) == (0, [])


def test_uncommitted_changes_are_part_of_what_is_tested(project: Project) -> None:
    project.commit(flake__nix=flake(one=job("one")))
    project.write(flake__nix=flake(one=job("one"), two=job("two")))
    done = project.nixmill("run", "--json")
    assert outcomes(done.report) == {"one": "succeeded", "two": "succeeded"}
    assert done.report["dirty"] is True
    assert project.git("status", "--porcelain") == "M flake.nix"


def test_a_dry_run_says_the_plan_and_builds_nothing(project: Project) -> None:
    marker = project.top / "built"
    project.commit(flake__nix=flake(one=job("one", f"echo x > {marker}; echo > $out")))
    done = project.nixmill("run", "--dry-run")
    assert done.code == 0
    assert "one" in done.out
    assert "1" in done.out
    assert not marker.exists()
    assert project.nixmill("runs").out == ""


def test_the_first_build_starts_before_evaluation_ends(project: Project) -> None:
    slow = 'builtins.foldl\' (a: n: a + builtins.stringLength (builtins.hashString "sha256" (toString n))) 0'
    busy = f"builtins.seq ({slow} (builtins.genList (x: x) 3000000))"
    project.commit(release__nix=f"{{ a = {job('a')}; z = {busy} ({job('z')}); }}")
    done = project.nixmill("run", "release.nix", "--jsonl", "--eval-workers", "1")
    events = [json.loads(line)["event"] for line in done.out.splitlines()]
    assert done.code == 0, done.err
    assert events.index("work-ended") < events.index("evaluation-ended")


def test_junit_and_jsonl_are_written_for_machines(project: Project) -> None:
    project.commit(
        flake__nix=flake(bad=job("bad", "printf 'bad \\033[31mcolour\\033[0m \\001'; exit 1"), fine=job("fine"))
    )
    done = project.nixmill("run", "--jsonl", "--junit", "junit.xml")
    assert done.code == 1
    events = [json.loads(line) for line in done.out.splitlines()]
    assert (events[0]["event"], events[-1]["event"]) == ("run-started", "run-ended")
    root = ET.parse(project.top / "junit.xml").getroot()  # noqa: S314 - our own file
    assert len(root.findall(".//failure")) == 1


def test_odd_names_survive_everywhere(project: Project) -> None:
    names = ["a/b", "a", "with space", "dotted.name", 'quote"d', "${dollar}", "..", "new\nline", "ünïcode", "-option"]
    literal = [json.dumps(name, ensure_ascii=False).replace("${", "\\${") for name in names]
    body = "\n".join(f"{name} = {job(f'odd-{index}')};" for index, name in enumerate(literal))
    project.commit(release__nix="{ " + body + " }")
    done = project.nixmill("run", "--json")
    assert done.code == 0, done.err
    assert sorted(attribute["path"] for attribute in done.report["attributes"]) == sorted([name] for name in names)


def test_derivations_survive_a_collection_right_after_evaluation(project: Project) -> None:
    gate = project.top / "gate"
    wait = f"while [ ! -e {gate} ]; do sleep 0.05; done; echo > $out"
    project.commit(
        flake__nix=flake(first=job("first", wait), second=job("second", "echo > $out", f"dep = {job('first', wait)};"))
    )
    running = project.start("run", "--jsonl")
    assert running.stdout is not None
    for line in running.stdout:
        if json.loads(line)["event"] == "evaluation-ended":
            break
    project.nix_store("--gc")
    gate.touch()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert '"run-ended"' in out


def test_what_a_run_leased_is_free_when_it_has_ended(project: Project) -> None:
    project.commit(flake__nix=flake(one=job("one")))
    done = project.nixmill("run", "--json")
    (attribute,) = done.report["attributes"]
    project.nix_store("--gc")
    assert not Path(attribute["drv_path"]).exists()
    assert not Path(attribute["outputs"]["out"]).exists()


def slow_project(project: Project) -> Path:
    started = project.top / "started"
    script = f"trap '' TERM INT HUP; echo $$ > {started}.$name; while true; do sleep 0.1; done"
    project.commit(flake__nix=flake(a=job("a", script), b=job("b", script), c=job("c", script)))
    return started


def wait_for(path: Path, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_ctrl_c_once_stops_builders_within_a_second_and_says_what_remains(project: Project) -> None:
    started = slow_project(project)
    running = project.start("run", "-j", "2")
    wait_for(Path(f"{started}.a"))
    wait_for(Path(f"{started}.b"))
    builders = [int(Path(f"{started}.{name}").read_text()) for name in "ab"]
    running.send_signal(signal.SIGINT)
    asked = time.monotonic()
    while any(is_alive(builder) for builder in builders):
        assert time.monotonic() - asked < 1.0
        time.sleep(0.01)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "cancelled" in err.lower()


def test_ctrl_c_twice_leaves_at_once(project: Project) -> None:
    started = slow_project(project)
    running = project.start("run", "-j", "1")
    wait_for(Path(f"{started}.a"))
    os.kill(running.pid, signal.SIGINT)
    os.kill(running.pid, signal.SIGINT)
    running.communicate(timeout=3)
    assert running.returncode == 130


def test_the_limits_of_the_command_line_hold(project: Project) -> None:
    project.commit(
        flake__nix=flake(
            slow=job("slow", "while true; do echo x; sleep 0.2; done"),
            mute=job("mute", "sleep 60"),
            chatty=job("chatty", "while true; do echo 0123456789012345678901234567890123456789; done"),
        )
    )
    done = project.nixmill(
        "run", "--json", "--timeout", "4", "--max-silent-time", "2", "--max-log-size", "100K", "-j", "3"
    )
    assert done.code == 1
    assert outcomes(done.report) == {"slow": "timed out", "mute": "silent too long", "chatty": "log too large"}


def test_a_size_limit_on_outputs_holds(project: Project) -> None:
    project.commit(flake__nix=flake(big=job("big", "dd if=/dev/zero of=$out bs=1024 count=200 2>/dev/null")))
    done = project.nixmill("run", "--json", "--max-output-size", "100K")
    assert outcomes(done.report) == {"big": "output too large"}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("run", "release.nix"), 2, "There is no file 'release.nix'"),
        (("run", ".#chekcs"), 3, "checks"),
        (("run", ".#checks.x86_64-linux.on"), 3, "one"),
        (("run", "nowhere#checks"), 2, "no flake.nix"),
        (("run", "one"), 2, "no flake.nix"),
        (("run", "github:a/b"), 2, "Clone it"),
        (("run", "-r", "no-such-branch"), 2, "no-such-branch"),
        (("run", "--revision=--upload-pack=x"), 2, "no name of a commit"),
        (("run", "--base", "no-such-tag"), 2, "no-such-tag"),
        (("run", "--max-log-size", "much"), 2, "no size"),
        (("run", "--no-such-option"), 2, "no-such-option"),
        (("run", "--builders", "ssh://x x86_64-linux - many"), 2, "many"),
        (("run", "--store", "gopher://x"), 2, "gopher"),
        (("rnu",), 2, "rnu"),
        (("log", "nothing-like-it"), 2, "nothing-like-it"),
        (("why", "nothing-like-it"), 2, "nothing-like-it"),
    ],
)
def test_bad_input_gets_a_sentence_with_a_remedy(
    project: Project, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    project.commit(flake__nix=flake(one=job("one")))
    project.commit()
    done = project.nixmill(*arguments)
    assert done.code == code, done.err
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 12


def test_no_project_here_is_a_sentence(project: Project) -> None:
    done = project.nixmill("run")
    assert done.code == 2
    assert "nixmill init" in done.err


def test_no_nix_is_a_sentence(project: Project) -> None:
    project.commit(flake__nix=flake(one=job("one")))
    bare = project.top.parent / "bin"
    bare.mkdir()
    (bare / "git").symlink_to("/usr/bin/git")
    done = project.nixmill("run", PATH=str(bare))
    assert done.code == 2
    assert "Nix" in done.err
    assert "Traceback" not in done.err


def test_init_makes_a_project_that_passes(project: Project) -> None:
    done = project.nixmill("init")
    assert done.code == 0
    project.commit()
    assert project.nixmill("run").code == 0
    assert project.nixmill("init").code == 2


def test_a_user_who_may_not_write_to_the_store_is_told_so_once(project: Project) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    project.commit(flake__nix=flake(one=job("one")))
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    state = project.store.root / "var/nix"
    state.mkdir(parents=True)
    project.store.root.chmod(0o755)
    home = project.store.root / "nobody"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    done = subprocess.run(
        (*nobody, *NIXMILL, "run", "-E", job("one")),
        cwd="/",
        env=project.store.environment | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4, done.stderr
    assert "You may not write to the store" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_full_disk_for_logs_does_not_fail_the_build(project: Project, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    project.commit(
        flake__nix=flake(
            loud=job("loud", "i=0; while [ $i -lt 3000 ]; do echo $i $RANDOM$i$i; i=$((i+1)); done; echo > $out")
        )
    )
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(("mount", "-t", "tmpfs", "-o", "size=220k", "tmpfs", str(small)), check=False)
    if mount.returncode:
        pytest.skip("mounting is not possible here")
    try:
        (small / "nixmill/logs").mkdir(parents=True)
        (small / "filler").write_bytes(b"x" * 150_000)
        done = project.nixmill("run", XDG_STATE_HOME=str(small))
    finally:
        subprocess.run(("umount", str(small)), check=True)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
