"""Facts about this machine, with a real Nix; and the trial of the sandbox."""

import shutil
import socket
from pathlib import Path

import pytest

from nixmill.core.doctor import ISOLATION, SandboxTrial, Severity, diagnose
from nixmill.core.history import RunEndRow
from nixmill.core.installation import StoreAccess
from nixmill.core.run_event import Verdict
from nixmill.edge.database.history import open_history
from nixmill.edge.doctor_facts import gather
from nixmill.edge.sandbox_trial import try_sandbox
from nixmill.nix.version import Flavour
from tests.support.history_rows import a_run
from tests.support.programs import script
from tests.support.scratch_store import CONFIGURATION, ScratchStore, scratch_store


async def test_facts_of_a_real_machine_are_judged(store: ScratchStore, tmp_path: Path) -> None:
    facts = await gather(store.environment | {"TMPDIR": str(tmp_path)}, tmp_path / "history.sqlite")
    assert facts.installation is not None
    assert {place.name for place in facts.places} >= {"temporary files"}
    assert facts.git_version
    assert facts.history is None
    assert not (tmp_path / "history.sqlite").exists()
    assert facts.sandbox_trial is None
    assert facts.clock_skew_s is not None
    assert abs(facts.clock_skew_s) < 1
    assert all(finding.sentence.endswith((".", ")")) for finding in diagnose(facts))


async def test_kept_build_directories_are_found(store: ScratchStore, tmp_path: Path) -> None:
    for name in ("nix-build-hello-2.12.drv-0", "nix-12345-67", "something-else-0"):
        (tmp_path / name).mkdir()
    facts = await gather(store.environment | {"TMPDIR": str(tmp_path)}, tmp_path / "history.sqlite")
    assert [Path(path).name for path in facts.kept_directories] == ["nix-12345-67", "nix-build-hello-2.12.drv-0"]


async def test_the_health_of_the_history_is_looked_at(store: ScratchStore, tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    async with open_history(file) as history:
        killed = await history.start_run(a_run(process=2**22 + 1))
        ended = await history.start_run(a_run(process=2**22 + 1))
        await history.record([RunEndRow(number=ended, ended_at=1.0, verdict=Verdict.GOOD, sentence="")])
    facts = await gather(store.environment, file)
    assert facts.history is not None
    assert (facts.history.faults, facts.history.killed_runs) == ((), (killed,))


async def test_a_history_that_cannot_be_opened_is_a_finding(store: ScratchStore, tmp_path: Path) -> None:
    file = tmp_path / "history.sqlite"
    file.write_text("not a database at all, whatever its name says\n" * 100)
    findings = diagnose(await gather(store.environment, file))
    assert any(each.check == "history" and each.severity is Severity.PROBLEM for each in findings)


async def test_a_machine_without_nix_and_git_still_gets_a_report(tmp_path: Path) -> None:
    facts = await gather({"PATH": str(tmp_path), "TMPDIR": str(tmp_path)}, tmp_path / "history.sqlite")
    assert facts.installation is None
    assert facts.git_version == ""
    first = diagnose(facts)[0]
    assert (first.sentence, first.severity) == ("There is no `nix` on PATH.", Severity.PROBLEM)


_WITH_DAEMON = """
case "$*" in
  --version) echo 'nix (Nix) 2.34.8' ;;
  *ping*) echo 'Store URL: daemon'; echo 'Version: {version}'; {trusted} ;;
  *show*) printf 'system = x\\ncores = 1\\nmax-jobs = 2\\nsandbox = true\\ntrusted-users = @nobody\\n' ;;
esac"""


@pytest.mark.parametrize(
    ("version", "trusted", "flavour", "told"),
    [("2.8.0", "true", Flavour.NIX, "False"), ("2.93.3", "echo Trusted: 1", Flavour.LIX, "True")],
)
async def test_the_daemon_is_asked_for_its_version_and_its_trust(
    fresh_store: ScratchStore, tmp_path: Path, version: str, trusted: str, flavour: Flavour, told: str
) -> None:
    script(tmp_path, "nix", _WITH_DAEMON.format(version=version, trusted=trusted))
    at = str(fresh_store.root / "sock")
    environment = {"PATH": str(tmp_path), "NIX_STATE_DIR": "/proc/1/nowhere", "NIX_DAEMON_SOCKET_PATH": at}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(at)
        facts = await gather(environment, tmp_path / "history.sqlite")
    assert facts.installation is not None
    assert facts.installation.access is StoreAccess.DAEMON
    assert facts.daemon_version is not None
    assert (str(facts.daemon_version.text), facts.daemon_version.flavour, str(facts.trusted)) == (
        version,
        flavour,
        told,
    )


def _nix_build() -> str:
    found = shutil.which("nix-build")
    assert found is not None
    return found


async def test_a_machine_without_sandbox_is_open(fresh_store: ScratchStore) -> None:
    assert await try_sandbox(_nix_build(), "x86_64-linux", fresh_store.environment) == (SandboxTrial.OPEN, "")


async def test_a_working_sandbox_isolates_or_says_why_it_cannot() -> None:
    configuration = CONFIGURATION.replace("sandbox = false", "sandbox = true\nsandbox-fallback = false")
    with scratch_store(configuration) as store:
        trial, words = await try_sandbox(_nix_build(), "x86_64-linux", store.environment)
    assert trial is SandboxTrial.ISOLATED or (trial is SandboxTrial.BROKEN and words)


async def test_a_build_that_fails_in_another_way_is_quoted(fresh_store: ScratchStore) -> None:
    trial, words = await try_sandbox(_nix_build(), "sparc-plan9", fresh_store.environment)
    assert trial is SandboxTrial.BROKEN
    assert words


async def test_a_thorough_look_tries_to_break_out_of_the_evaluation_sandbox(
    store: ScratchStore, tmp_path: Path
) -> None:
    Path(store.store_dir).mkdir(exist_ok=True)  # noqa: ASYNC240 - one directory
    facts = await gather(store.environment, tmp_path / "history.sqlite", try_out_sandbox=True)
    assert facts.isolation is not None
    found = [finding for finding in diagnose(facts) if finding.check == ISOLATION]
    assert [finding.sentence for finding in found if finding.severity is not Severity.GOOD] == []
    assert len(found) > 1
