"""Findings from facts."""

import msgspec
import pytest

from nixmill.core.doctor import GIB, ISOLATION, Facts, Finding, HistoryFacts, Place, SandboxTrial, Severity, diagnose
from nixmill.core.installation import NixInstallation, NixSettings, Reachability, StoreAccess, Unreachable
from nixmill.core.isolation import Isolation, Property
from nixmill.nix.version import Flavour, NixVersion

SETTINGS = NixSettings(
    system="x86_64-linux",
    extra_platforms=(),
    system_features=frozenset(),
    substituters=(),
    trusted_public_keys=(),
    trusted_users=("root",),
    substitute=True,
    require_sigs=True,
    max_jobs=1,
    cores=0,
    builders="",
    sandbox="true",
    sandbox_fallback=False,
    experimental_features=frozenset({"nix-command", "flakes"}),
    min_free=0,
    accept_flake_config=False,
    build_users_group="nixbld",
    netrc_file="",
    store="auto",
)
NEW = NixVersion(Flavour.NIX, (2, 34, 8), "2.34.8")
OLD = NixVersion(Flavour.NIX, (2, 34, 4), "2.34.4")
INSTALLATION = NixInstallation(
    program="/bin/nix",
    version=NEW,
    store_dir="/nix/store",
    state_dir="/nix/var/nix",
    daemon_socket="/socket",
    access=StoreAccess.DAEMON,
    settings=SETTINGS,
)
PLACE = Place(name="store", path="/nix/store", free_bytes=100 * GIB, free_files=10**6, executable=True)
HEALTHY = Facts(
    installation=INSTALLATION,
    daemon_version=NEW,
    trusted=False,
    sandbox_trial=SandboxTrial.ISOLATED,
    places=(PLACE,),
    substituters=Reachability(reachable=("https://cache",), unreachable=()),
    clock_skew_s=0.01,
    git_version="2.39.5",
    history=HistoryFacts(file="/h", faults=(), killed_runs=()),
)


def _bad(facts: Facts) -> list[Finding]:
    return [finding for finding in diagnose(facts) if finding.severity is not Severity.GOOD]


def _one(facts: Facts) -> tuple[str, Severity, str]:
    (finding,) = _bad(facts)
    assert finding.remedy
    return finding.check, finding.severity, finding.sentence


def _with(**changes: object) -> Facts:
    return msgspec.structs.replace(HEALTHY, **changes)


def _settings(**changes: object) -> Facts:
    settings = msgspec.structs.replace(SETTINGS, **changes)
    return _with(installation=msgspec.structs.replace(INSTALLATION, settings=settings), sandbox_trial=None)


def test_a_healthy_machine_has_only_good_findings() -> None:
    assert _bad(HEALTHY) == []
    assert {finding.check for finding in diagnose(HEALTHY)} == {
        "nix", "store", "sandbox", "substituters", "disk", "git", "history"
    }  # fmt: skip


def test_nothing_is_said_of_what_was_not_found_out() -> None:
    bare = Facts(installation=None, installation_fault="There is no `nix` on PATH.", installation_remedy="Install it.")
    assert _one(bare) == ("nix", Severity.PROBLEM, "There is no `nix` on PATH.")
    assert len(diagnose(bare)) == 1


def test_the_gravest_come_first() -> None:
    worse = _with(clock_skew_s=100.0, git_version="", kept_directories=("/var/nix-build-x-0",))
    worse = msgspec.structs.replace(worse, sandbox_trial=SandboxTrial.OPEN)
    order = [finding.severity for finding in diagnose(worse)]
    assert order == sorted(order, key=list(Severity).index)
    assert order[0] is Severity.PROBLEM


def test_advisories_name_the_version_what_it_means_and_where_to_read() -> None:
    facts = _with(installation=msgspec.structs.replace(INSTALLATION, version=OLD), daemon_version=OLD)
    found = [finding for finding in _bad(facts) if finding.check == "nix"]
    assert len(found) == 2
    assert "By its number, Nix 2.34.4 is open to CVE-2026-39860: whoever may build can" in found[0].sentence
    assert "GHSA-g3g9-5vj6-r3gj" in found[0].remedy


def test_an_old_daemon_behind_a_new_client_is_judged_too() -> None:
    checks = [finding.check for finding in _bad(_with(daemon_version=OLD))]
    assert checks.count("daemon") == 3


def test_no_way_to_the_store_is_a_problem() -> None:
    facts = _with(installation=msgspec.structs.replace(INSTALLATION, access=StoreAccess.NONE))
    check, severity, sentence = _one(facts)
    assert (check, severity) == ("store", Severity.PROBLEM)
    assert "no daemon listens at /socket" in sentence


def test_being_trusted_by_the_daemon_is_noted() -> None:
    assert _one(_with(trusted=True))[:2] == ("trust", Severity.NOTE)


@pytest.mark.parametrize(
    ("trial", "part"), [(SandboxTrial.OPEN, "not isolated"), (SandboxTrial.BROKEN, "failed: no namespaces")]
)
def test_a_sandbox_that_does_not_hold_is_a_problem(trial: SandboxTrial, part: str) -> None:
    check, severity, sentence = _one(_with(sandbox_trial=trial, sandbox_words="no namespaces"))
    assert (check, severity) == ("sandbox", Severity.PROBLEM)
    assert part in sentence


@pytest.mark.parametrize(
    ("changes", "check", "severity"),
    [
        ({"sandbox": "false"}, "sandbox", Severity.WARNING),
        ({"sandbox": "relaxed"}, "sandbox", Severity.WARNING),
        ({"sandbox_fallback": True}, "sandbox", Severity.WARNING),
        ({"experimental_features": frozenset({"nix-command"})}, "features", Severity.NOTE),
        ({"accept_flake_config": True}, "features", Severity.WARNING),
        ({"require_sigs": False}, "signatures", Severity.PROBLEM),
    ],
)
def test_unsafe_settings_are_found(changes: dict[str, object], check: str, severity: Severity) -> None:
    assert _one(_settings(**changes))[:2] == (check, severity)


def test_each_unreachable_substituter_is_told() -> None:
    gone = (
        Unreachable(url="https://a", reason="connection refused"),
        Unreachable(url="https://b", reason="it is gone"),
    )
    found = _bad(_with(substituters=Reachability(reachable=("https://c",), unreachable=gone)))
    assert [finding.sentence for finding in found] == [
        "The substituter https://a is left out: connection refused.",
        "The substituter https://b is left out: it is gone.",
    ]


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"free_bytes": 4 * GIB}, Severity.WARNING),
        ({"free_bytes": GIB // 2}, Severity.PROBLEM),
        ({"free_files": 100}, Severity.PROBLEM),
        ({"executable": False}, Severity.WARNING),
    ],
)
def test_disks_that_are_full_or_unfit_are_found(changes: dict[str, object], severity: Severity) -> None:
    assert _one(_with(places=(msgspec.structs.replace(PLACE, **changes),)))[:2] == ("disk", severity)


@pytest.mark.parametrize(("skew", "words"), [(60.0, "60 s ahead of"), (-3.0, "3 s behind")])
def test_a_clock_that_is_off_is_found(skew: float, words: str) -> None:
    assert words in _one(_with(clock_skew_s=skew))[2]


def test_a_history_that_is_damaged_is_a_problem_with_a_way_out() -> None:
    damaged = HistoryFacts(file="/h/history.sqlite", faults=("It is damaged.",), killed_runs=())
    (finding,) = _bad(_with(history=damaged))
    assert (finding.severity, finding.sentence) == (Severity.PROBLEM, "It is damaged.")
    assert "/h/history.sqlite" in finding.remedy


def test_killed_runs_are_noted() -> None:
    killed = HistoryFacts(file="/h", faults=(), killed_runs=tuple(range(1, 9)))
    assert _one(_with(history=killed))[2] == "8 runs were killed before they ended (the latest: 4, 5, 6, 7, 8)."


def test_missing_git_and_kept_directories_are_told() -> None:
    assert _one(_with(git_version=""))[:2] == ("git", Severity.WARNING)
    assert _one(_with(kept_directories=("/var/nix-build-a-0", "/var/b")))[:2] == ("kept builds", Severity.NOTE)


def test_a_sandbox_that_keeps_all_it_should_is_good() -> None:
    facts = _with(isolation=Isolation(escapes=dict.fromkeys(Property, "")))
    assert _bad(facts) == []
    assert sum(finding.check == ISOLATION for finding in diagnose(facts)) == len(Property)


@pytest.mark.parametrize("which", Property)
def test_every_way_out_of_the_sandbox_is_a_problem(which: Property) -> None:
    check, severity, sentence = _one(_with(isolation=Isolation(escapes={which: "it did"})))
    assert (check, severity) == (ISOLATION, Severity.PROBLEM)
    assert sentence.endswith(": it did.")


def test_a_machine_that_cannot_isolate_evaluations_is_warned_of() -> None:
    facts = _with(isolation=Isolation(unavailable="There is no `bwrap` on PATH."))
    assert _one(facts) == (ISOLATION, Severity.WARNING, "There is no `bwrap` on PATH.")
