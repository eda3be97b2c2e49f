"""What `nixmill doctor` says: from facts about a machine to findings, each with a sentence and a remedy.

Decides what is a problem and what to do about it. What this file does not know: how facts are gathered
(`nixmill.edge.doctor_facts`). A fact that is None was not asked for, or could not be found out; nothing is said of it.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from nixmill.core.advisories import concerning
from nixmill.core.installation import NixInstallation, NixSettings, Reachability, StoreAccess
from nixmill.core.isolation import Isolation, Property, broken, held
from nixmill.nix.version import NixVersion

GIB: Final = 1024**3
LITTLE_SPACE: Final = 5 * GIB
NO_SPACE: Final = GIB
FEW_FILES: Final = 10_000
SKEW_S: Final = 2.0
ISOLATION: Final = "evaluation sandbox"


class Severity(StrEnum):
    """How much a finding matters; the order is that of the list."""

    PROBLEM = "problem"
    """Something will fail, or is unsafe."""
    WARNING = "warning"
    """Something may fail, or is slower or less safe than it could be."""
    NOTE = "note"
    GOOD = "good"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report. `remedy` is empty where there is nothing to do."""

    check: str
    """What was looked at, in a word or two."""
    severity: Severity
    sentence: str
    remedy: str = ""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A directory and the file system that it is on."""

    name: str
    """What it is for: `store`, `state`, `temporary files`."""
    path: str
    free_bytes: int
    free_files: int | None
    """None where the file system does not count."""
    executable: bool
    """Programs may be started from there."""


class SandboxTrial(StrEnum):
    """How a build fared that a working sandbox does not let succeed."""

    ISOLATED = "isolated"
    """The builder could not see the machine's files."""
    OPEN = "open"
    """It could."""
    BROKEN = "broken"
    """The sandbox could not be set up, or the build failed in another way."""


class HistoryFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the history database."""

    file: str
    faults: tuple[str, ...]
    """Sentences; empty where it is sound."""
    killed_runs: tuple[int, ...]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about a machine."""

    installation: NixInstallation | None
    installation_fault: str = ""
    """Why there is no installation."""
    installation_remedy: str = ""
    darwin: bool = False
    daemon_version: NixVersion | None = None
    trusted: bool | None = None
    """The daemon trusts this user as it trusts root."""
    sandbox_trial: SandboxTrial | None = None
    sandbox_words: str = ""
    """Nix's own words where the trial was `BROKEN`."""
    isolation: Isolation | None = None
    """How the sandbox of evaluations for strangers fared."""
    places: tuple[Place, ...] = ()
    substituters: Reachability | None = None
    clock_skew_s: float | None = None
    """How far the clock is ahead of that of the file system that holds the history."""
    git_version: str | None = None
    """Empty where there is no git."""
    history: HistoryFacts | None = None
    kept_directories: tuple[str, ...] = ()


def diagnose(facts: Facts) -> list[Finding]:
    """Return all findings, the gravest first; within a severity in the order of the checks."""
    order = list(Severity)
    return sorted(_findings(facts), key=lambda finding: order.index(finding.severity))


def _findings(facts: Facts) -> Iterator[Finding]:
    if facts.installation is None:
        yield _finding("nix", Severity.PROBLEM, facts.installation_fault, facts.installation_remedy)
    else:
        yield from _installation(facts, facts.installation)
        yield from _sandbox(facts, facts.installation.settings)
        yield from _settings(facts.installation.settings)
        yield from _isolation(facts.isolation)
    yield from _substituters(facts.substituters)
    for place in facts.places:
        yield from _place(place)
    yield from _clock(facts.clock_skew_s)
    yield from _git(facts.git_version)
    yield from _history(facts.history)
    yield from _kept(facts.kept_directories)


def _finding(check: str, severity: Severity, sentence: str, remedy: str = "") -> Finding:
    return Finding(check=check, severity=severity, sentence=sentence, remedy=remedy)


def _installation(facts: Facts, found: NixInstallation) -> Iterator[Finding]:
    yield from _versions(facts, found)
    match found.access:
        case StoreAccess.DIRECT:
            yield _finding("store", Severity.GOOD, f"You may write to the store {found.store_dir}.")
        case StoreAccess.DAEMON:
            yield _finding("store", Severity.GOOD, f"A daemon listens at {found.daemon_socket}.")
        case StoreAccess.NONE:
            sentence = (
                f"You may not write to the store {found.store_dir}, and no daemon listens at {found.daemon_socket}."
            )
            yield _finding("store", Severity.PROBLEM, sentence, "Start the daemon: `sudo systemctl start nix-daemon`.")
    yield from _trust(facts, found.access)


def _versions(facts: Facts, found: NixInstallation) -> Iterator[Finding]:
    yield from _version(found.version, "nix", darwin=facts.darwin)
    daemon = facts.daemon_version
    if daemon is not None and daemon.numbers != found.version.numbers:
        sentence = f"The daemon is {daemon}, the client {found.version}."
        yield _finding("daemon", Severity.NOTE, sentence, "Restart the daemon after an update of Nix.")
        yield from _version(daemon, "daemon", darwin=facts.darwin)


def _version(version: NixVersion, check: str, *, darwin: bool) -> Iterator[Finding]:
    advisories = concerning(version, darwin=darwin)
    if not advisories:
        yield _finding(check, Severity.GOOD, f"No known advisory concerns {version}.")
    for advisory in advisories:
        names = ", ".join(advisory.names)
        sentence = f"By its number, {version} is open to {names}: {advisory.meaning}."
        remedy = f"Update Nix, or make sure that your distribution has the fix: {advisory.source}"
        yield _finding(check, Severity.PROBLEM if advisory.gives_root else Severity.WARNING, sentence, remedy)


def _trust(facts: Facts, access: StoreAccess) -> Iterator[Finding]:
    if facts.trusted and access is StoreAccess.DAEMON:
        yield _finding(
            "trust",
            Severity.NOTE,
            "The daemon trusts you as it trusts root: what you build can take over the machine.",
            "For an account that builds other people's code, take it out of `trusted-users` in nix.conf.",
        )


def _sandbox(facts: Facts, settings: NixSettings) -> Iterator[Finding]:
    match facts.sandbox_trial:
        case SandboxTrial.OPEN:
            sentence = (
                "Builds see the files of this machine: they are not isolated, and may pass here but fail elsewhere."
            )
            yield _finding("sandbox", Severity.PROBLEM, sentence, "Set `sandbox = true` in nix.conf.")
        case SandboxTrial.BROKEN:
            sentence = f"The build that tries out the sandbox failed: {facts.sandbox_words}"
            remedy = (
                "In a container, allow user namespaces or run it privileged; elsewhere see the manual on `sandbox`."
            )
            yield _finding("sandbox", Severity.PROBLEM, sentence, remedy)
        case SandboxTrial.ISOLATED:
            yield _finding("sandbox", Severity.GOOD, "Builds are isolated: one was tried.")
        case None:
            yield from _sandbox_settings(settings)


def _sandbox_settings(settings: NixSettings) -> Iterator[Finding]:
    if settings.sandbox != "true":
        sentence = f"`sandbox = {settings.sandbox}`: builds may see the files of this machine."
        yield _finding("sandbox", Severity.WARNING, sentence, "Set `sandbox = true` in nix.conf.")
    elif settings.sandbox_fallback:
        sentence = "`sandbox-fallback = true`: where the sandbox cannot be set up, builds silently run without."
        yield _finding("sandbox", Severity.WARNING, sentence, "Set `sandbox-fallback = false` in nix.conf.")
    else:
        yield _finding("sandbox", Severity.GOOD, "The sandbox is switched on.")


def _isolation(found: Isolation | None) -> Iterator[Finding]:
    if found is None:
        return
    if found.unavailable:
        remedy = (
            "Install bubblewrap and allow user namespaces (`sysctl user.max_user_namespaces`, AppArmor's"
            " `kernel.apparmor_restrict_unprivileged_userns`). Until then the server evaluates no stranger's changes."
        )
        yield _finding(ISOLATION, Severity.WARNING, found.unavailable, remedy)
        return
    for each in Property:
        how = found.escapes.get(each, "")
        if how:
            remedy = "Let no stranger's change be evaluated on this machine; please report this."
            yield _finding(ISOLATION, Severity.PROBLEM, broken(each, how), remedy)
        else:
            yield _finding(ISOLATION, Severity.GOOD, held(each))


def _settings(settings: NixSettings) -> Iterator[Finding]:
    if "flakes" not in settings.experimental_features:
        sentence = "Flakes are switched off for other commands; nixmill switches them on for itself."
        remedy = "For `nix build` and the like: `experimental-features = nix-command flakes` in nix.conf."
        yield _finding("features", Severity.NOTE, sentence, remedy)
    if settings.accept_flake_config:
        sentence = "`accept-flake-config = true`: any flake may change the settings of Nix. nixmill never lets it."
        yield _finding("features", Severity.WARNING, sentence, "Take `accept-flake-config` out of nix.conf.")
    if not settings.require_sigs:
        sentence = "`require-sigs = false`: a substituter may hand over anything under any name."
        yield _finding("signatures", Severity.PROBLEM, sentence, "Take `require-sigs` out of nix.conf.")


def _substituters(found: Reachability | None) -> Iterator[Finding]:
    if found is None:
        return
    for each in found.unreachable:
        remedy = "Take it out of `substituters` in nix.conf, or mend the network."
        yield _finding("substituters", Severity.WARNING, each.sentence, remedy)
    if found.reachable and not found.unreachable:
        yield _finding("substituters", Severity.GOOD, f"All {len(found.reachable)} substituters can be used.")


def _place(place: Place) -> Iterator[Finding]:
    free = f"{place.free_bytes / GIB:.1f} GiB are free for the {place.name} ({place.path})."
    remedy = "Delete old roots and run `nix-collect-garbage`, or make the disk larger."
    if place.free_bytes < NO_SPACE:
        yield _finding("disk", Severity.PROBLEM, f"Only {free}", remedy)
    elif place.free_bytes < LITTLE_SPACE:
        yield _finding("disk", Severity.WARNING, f"Only {free}", remedy)
    else:
        yield _finding("disk", Severity.GOOD, free)
    if place.free_files is not None and place.free_files < FEW_FILES:
        sentence = f"The file system of the {place.name} ({place.path}) can hold only {place.free_files:,} more files."
        yield _finding("disk", Severity.PROBLEM, sentence, remedy)
    if not place.executable:
        sentence = f"No program can be started from {place.path} (mounted `noexec`): many builds need that."
        yield _finding("disk", Severity.WARNING, sentence, "Mount it without `noexec`, or set TMPDIR for the daemon.")


def _clock(skew_s: float | None) -> Iterator[Finding]:
    if skew_s is not None and abs(skew_s) > SKEW_S:
        ahead = "ahead of" if skew_s > 0 else "behind"
        sentence = f"The clock is {abs(skew_s):.0f} s {ahead} that of the file system: ages and orders will be wrong."
        yield _finding("clock", Severity.WARNING, sentence, "Synchronise the clocks of both machines.")


def _git(version: str | None) -> Iterator[Finding]:
    if version == "":
        yield _finding(
            "git", Severity.WARNING, "There is no `git`: only plain directories can be checked.", "Install git."
        )
    elif version is not None:
        yield _finding("git", Severity.GOOD, f"git {version} is there.")


def _history(history: HistoryFacts | None) -> Iterator[Finding]:
    if history is None:
        return
    for fault in history.faults:
        remedy = f"Move {history.file} away; estimates and earlier results are then gone."
        yield _finding("history", Severity.PROBLEM, fault, remedy)
    if not history.faults:
        yield _finding("history", Severity.GOOD, f"The history {history.file} is sound.")
    if history.killed_runs:
        shown = ", ".join(map(str, history.killed_runs[-5:]))
        sentence = f"{len(history.killed_runs)} runs were killed before they ended (the latest: {shown})."
        yield _finding("history", Severity.NOTE, sentence, "Nothing: a new run goes on from what was built.")


def _kept(directories: tuple[str, ...]) -> Iterator[Finding]:
    if directories:
        sentence = f"{len(directories)} directories of failed builds are kept, such as {directories[0]}."
        yield _finding("kept builds", Severity.NOTE, sentence, "Delete those that nobody needs any more.")
