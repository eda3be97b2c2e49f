"""garnix' matchers → targets of nixmill: `packages.*.*` is `.#packages`; what has no equal is told.

A matcher is `x.y` or `x.y.z`, each part a name or `*`. Source: garnix.io/docs/yaml_config;
joegoldin/garnix-ci-selfhosted abd0984 (`Garnix/YamlConfig.hs`, `Garnix/Attribute.hs`).
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from nixmill.core.importing.findings import Findings, listed, shown
from nixmill.nix.attr_path import show_name

ANY: Final = "*"
OUTPUTS: Final = ("checks", "packages", "devShells")
"""What `*.SYSTEM.*` chooses of a flake, where it is there; `apps` too, which are no builds."""
CONFIGURATIONS: Final = {
    "nixosConfigurations": "config.system.build.toplevel",
    "darwinConfigurations": "config.system.build.toplevel",
    "homeConfigurations": "activationPackage",
}
_SINGLE: Final = ("defaultPackage", "devShell")
_SHOWN_PER_SYSTEM: Final = "x86_64-linux"


class Matcher(NamedTuple):
    """A matcher in its parts."""

    output: str
    middle: str
    """A system, or the name of a configuration."""
    name: str = ""
    """Empty: it has two parts."""

    def __str__(self) -> str:
        """Return it as it was written."""
        return ".".join(part for part in self if part)

    def is_vain(self) -> bool:
        """Say whether it chooses nothing: garnix takes a part word for word unless it is `*` alone."""
        return any(ANY in part and part != ANY for part in self)

    def covers(self, other: "Matcher") -> bool:
        """Say whether everything that `other` chooses is chosen by this one, too."""
        same = bool(self.name) == bool(other.name)
        return same and all(mine in {ANY, theirs} for mine, theirs in zip(self, other, strict=True))

    def meets(self, other: "Matcher") -> bool:
        """Say whether something may be chosen by both."""
        same = bool(self.name) == bool(other.name)
        return same and all(ANY in {mine, theirs} or mine == theirs for mine, theirs in zip(self, other, strict=True))


def parsed(text: str) -> Matcher | None:
    """Return a matcher; None where it has not two or three parts."""
    parts = text.split(".")
    return Matcher(*parts) if len(parts) in {2, 3} and all(parts) else None


def targets(include: Iterable[Matcher], exclude: Sequence[Matcher], directory: str, findings: Findings) -> list[str]:
    """Return the targets of one section, most general ones only, in order."""
    chosen = [one for matcher in include for one in _spread(matcher, findings)]
    kept = [one for one in chosen if not any(out.covers(one) for out in exclude)]
    _tell_excluded([out for out in exclude if any(one.meets(out) for one in kept)], findings)
    general = [one for one in kept if not any(more != one and more.covers(one) for more in kept)]
    found = [target for one in general for target in _target(one, directory, findings)]
    return list(dict.fromkeys(found))


def _spread(matcher: Matcher, findings: Findings) -> list[Matcher]:
    """Return a matcher for each output of a flake that is meant by `*` in front."""
    if matcher.output != ANY:
        return [matcher]
    if not matcher.name:
        return [Matcher(output, matcher.middle) for output in CONFIGURATIONS]
    findings.differently(
        str(matcher),
        f"nixmill has no wildcard for outputs; {listed([f'.#{output}' for output in OUTPUTS])} are named, where garnix"
        " takes what is there.",
        "Delete from `targets` what the flake does not have: a target that is not there is an error.",
    )
    return [Matcher(output, matcher.middle, matcher.name) for output in OUTPUTS]


def _tell_excluded(outs: Sequence[Matcher], findings: Findings) -> None:
    if outs:
        findings.lost(
            f"exclude {listed([str(out) for out in outs])}",
            "nixmill checks a target as a whole and leaves out nothing of it.",
            "Name in `targets` what is wanted instead, or move these attributes to an output that is no target.",
        )


def _target(one: Matcher, directory: str, findings: Findings) -> list[str]:
    start = f"{directory}#{show_name(one.output)}"
    if one.output == "apps":
        findings.lost(
            str(one),
            "an app is no derivation; what it runs is built where it is a package or a check.",
            "Name that package in `targets`.",
        )
        return []
    if one.output in _SINGLE and not one.name:
        findings.lost(
            str(one),
            "it is an output of old flakes, and a target that is not there is an error.",
            f"Where the flake has it, add `{start}.{show_name(one.middle)}` to `targets`.",
        )
        return []
    if one.output in CONFIGURATIONS and not one.name:
        return _configuration(one, start, findings)
    if one.middle == ANY and one.name not in {ANY, ""}:
        findings.lost(
            str(one),
            "nixmill has no wildcard for systems in front of a name.",
            f"Name it for each system: `{start}.{_SHOWN_PER_SYSTEM}.{show_name(one.name)}`.",
        )
        return []
    if one.middle == ANY:
        return [start]
    start = f"{start}.{show_name(one.middle)}"
    return [start if one.name in {ANY, ""} else f"{start}.{show_name(one.name)}"]


def _configuration(one: Matcher, start: str, findings: Findings) -> list[str]:
    """Return the target of a configuration: of each the part that garnix builds."""
    part = CONFIGURATIONS[one.output]
    if one.middle != ANY:
        return [f"{start}.{show_name(one.middle)}.{part}"]
    findings.lost(
        str(one),
        "a configuration is no derivation, and nixmill does not know how they are called.",
        f"Where the flake has any: name each in `targets`, such as `{start}.NAME.{part}`, or make checks of them:"
        f" checks.{_SHOWN_PER_SYSTEM} = builtins.mapAttrs (_: one: one.{part}) self.{one.output};",
    )
    return []


def described(found: Sequence[str]) -> str:
    """Return targets as they stand in a TOML file."""
    return f"targets = [{', '.join(shown(one).replace('`', chr(34)) for one in found)}]"
