"""`garnix.yaml` → `nixmill.toml`.

Source: garnix.io/docs/yaml_config; joegoldin/garnix-ci-selfhosted abd0984 (`Garnix/YamlConfig.hs`, whose schema has
no `servers` any more; the hosted garnix has).
"""

from collections.abc import Iterator, Mapping
from typing import Final

from nixmill.core.importing.findings import Document, Findings, Path, RepositoryFile, listed, shown
from nixmill.core.importing.flake_settings import directory
from nixmill.core.importing.garnix_targets import Matcher, described, parsed, targets
from nixmill.core.importing.options import Kind, Option, Values, read, tell_lost, unknown
from nixmill.core.importing.toml_text import written

STATUS_NAME: Final = "All Garnix checks"
"""The check over all others. On Gitea `garnix/` stands in front of it."""
DEFAULT_INCLUDE: Final = (
    "*.x86_64-linux.*",
    "homeConfigurations.*",
    "darwinConfigurations.*",
    "nixosConfigurations.*",
)
"""Less `defaultPackage` and `devShell`, which today's flakes do not have."""
NOTHING_FOR_ALL: Final = (
    "gives no nixmill.toml, as nothing in it is for all branches and has an equal. Without one nixmill checks the"
    " flake's checks."
)
_SECTION: Final = ("include", "exclude", "branch")
_OPTIONS: Final = (
    Option("builds", Kind.ANYTHING),
    Option("flakeDir", Kind.TEXT),
    Option("autoCancelSuperseded", Kind.FLAG),
    Option("actions", Kind.TABLES),
    Option("artifacts", Kind.TABLES),
    Option("servers", Kind.TABLES),
    Option(
        "incrementalizeBuilds",
        Kind.ANYTHING,
        None,
        "nixmill does not hand the outputs of an earlier commit to a build.",
        "Without it the flake input garnix-incrementalize gives empty caches, and builds are whole.",
    ),
    Option("modules", Kind.ANYTHING, None, "nixmill publishes no modules."),
    Option(
        "fodChecks",
        Kind.FLAG,
        None,
        "nixmill does not fetch fixed-output derivations again to compare their hashes.",
        "`nix build --rebuild` does so for one.",
    ),
)


def repository_file(document: Document, findings: Findings) -> RepositoryFile:
    """Return what a repository needs. `document` with an empty table: garnix' defaults count."""
    values = read(document, _OPTIONS, findings)
    for path, meant in unknown(document, _OPTIONS):
        findings.mistake(document, path, "is no key of this file.", meant)
    tell_lost(values, _OPTIONS, findings)
    _tell(values, findings)
    start = directory(document, ("flakeDir",), values.text("flakeDir"), findings)
    found: list[str] = []
    for section in _sections(values, findings):
        wanted = targets(section.include, section.exclude, start, findings)
        if section.branch:
            _tell_branch(section.branch, wanted, findings)
        else:
            found += wanted
    found += _artifacts(values, start, findings)
    text = written({}, [("[evaluate]", _evaluate(found))])
    return RepositoryFile(source=document.where, text=text, without="" if found else NOTHING_FOR_ALL)


class _Section:
    """A section of `builds`, read."""

    def __init__(self, values: Values, at: Path, section: Mapping[str, object], findings: Findings) -> None:
        self._values, self._at, self._findings = values, at, findings
        for name in section:
            if name not in _SECTION:
                self._wrong(name, "is no key of a section.", f"Known: {', '.join(_SECTION)}.")
        self.include = self._matchers("include", section.get("include"), DEFAULT_INCLUDE)
        self.exclude = self._matchers("exclude", section.get("exclude"), ())
        branch = section.get("branch") or ""
        self.branch = branch if isinstance(branch, str) else ""
        if branch != self.branch:
            self._wrong("branch", f"should be a text, not {shown(branch)}.")

    def _matchers(self, name: str, said: object, default: tuple[str, ...]) -> list[Matcher]:
        texts = list(default) if said is None else said
        if not isinstance(texts, list):
            self._wrong(name, f"should be a list of texts, not {shown(texts)}.")
            return []
        return [found for text in texts for found in self._matcher(name, text)]

    def _matcher(self, name: str, text: object) -> Iterator[Matcher]:
        found = parsed(text) if isinstance(text, str) else None
        if found is None:
            self._wrong(name, f"{shown(text)} is no matcher.", "Expected x.y or x.y.z, each part a name or *.")
        elif found.is_vain():
            why = "garnix takes a part word for word unless it is * alone, so this never chose anything."
            self._findings.lost(f"{name} {found}", why, "Name what was meant.")
        else:
            yield found

    def _wrong(self, name: str, sentence: str, remedy: str = "") -> None:
        self._findings.mistake(self._values.document, (*self._at, name), sentence, remedy)


def _sections(values: Values, findings: Findings) -> list[_Section]:
    said = values.get("builds")
    sections = said if isinstance(said, list) else [{} if said is None else said]
    many = isinstance(said, list)
    found: list[_Section] = []
    for number, section in enumerate(sections, 1):
        at = ("builds", f"[{number}]") if many else ("builds",)
        if isinstance(section, dict):
            found.append(_Section(values, at, section, findings))
        else:
            findings.mistake(values.document, at, f"should be a table, not {shown(section)}.")
    return found


def _evaluate(found: list[str]) -> dict[str, object]:
    every = list(dict.fromkeys(found))
    general = [one for one in every if not any(one.startswith(f"{more}.") for more in every)]
    return {"targets": general} if general and general != [".#checks"] else {}


def _artifacts(values: Values, start: str, findings: Findings) -> list[str]:
    """Return the packages of artifacts: garnix builds them in any case."""
    packages = [str(one.get("package")) for one in values.tables("artifacts") if isinstance(one.get("package"), str)]
    if packages:
        findings.lost(
            f"artifacts {listed(packages)}",
            "nixmill builds them, but publishes no files for download.",
            "A [[hook]] of the server can copy an output where it is to be found (docs/notifications.md).",
        )
    found = [parsed(f"packages.x86_64-linux.{name}") for name in packages]
    return targets([one for one in found if one], (), start, findings)


def _tell_branch(branch: str, wanted: list[str], findings: Findings) -> None:
    findings.lost(
        f"builds for the branch {shown(branch)}",
        "nixmill.toml has no targets for one branch only.",
        f'Make a jobset of the project with branches = ["{branch}"] and {described(wanted)}'
        " (on its page, or in the projects file).",
    )


def _tell(values: Values, findings: Findings) -> None:
    for one in values.tables("actions"):
        findings.lost(
            f"action {shown(one.get('run'))}",
            "nixmill runs no apps of a flake after builds.",
            "Make a check of what has to be true; what has power, such as a deployment, can be a [[hook]].",
        )
    for one in values.tables("servers"):
        findings.lost(
            f"server {shown(one.get('configuration'))}",
            "nixmill deploys no machines.",
            "A [[hook]] on the configuration's attribute can start what deploys it.",
        )
    if not values.flag("autoCancelSuperseded"):
        findings.differently("superseded pushes", "a newer push to a branch cancels what runs for the older one.")
    findings.differently(
        "statuses",
        f"garnix has a check for each attribute and {STATUS_NAME!r} over all; nixmill posts this one, and one for each"
        " of at most ten attributes that fail.",
        "Take the checks of single attributes and `Evaluate flake.nix` off the required checks: they are never posted"
        " again. A required check that is bound to the app of garnix has to be bound to yours, or to any source.",
    )
    findings.differently("pull requests of forks", "nixmill waits until somebody who may write approves the commit.")
    findings.lost(
        "cache.garnix.io", "nixmill brings no binary cache with it.", "Take it off your substituters at the end."
    )
