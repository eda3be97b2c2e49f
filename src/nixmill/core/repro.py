"""The commands that repeat what a run did with one attribute, on this machine or another. Words for people to copy."""

import shlex

from nixmill.core.history import AttributeRow, RunRow
from nixmill.core.outcome import Outcome
from nixmill.nix.attr_path import AttrPath, show


def repro_lines(run: RunRow, attribute: AttributeRow) -> list[str]:
    """Return comments and commands, the closest repetition last."""
    shown = show(attribute.path)
    state = "passed" if attribute.outcome is Outcome.SUCCEEDED else str(attribute.outcome)
    lines = [f"# {shown} {state} in run {run.number} at commit {run.commit or '(none)'}"]
    lines += [f"cd {shlex.quote(run.checkout)}", "# as nixmill did it:"]
    revision = f" -r {run.commit}" if run.commit else ""
    lines.append(f"nixmill run{revision} {_target(run, attribute.path)}")
    if run.commit and _is_flake(run) and "\\" not in shown:  # Nix knows no escapes in a selection
        lines += [
            "# with Nix alone:",
            f"nix build {shlex.quote(f'git+file://{run.checkout}?rev={run.commit}#{shown}')}",
        ]
    lines += ["# exactly this derivation, while it is in the store:", f"nix-store --realise {attribute.drv_path}"]
    if attribute.culprit:
        lines += ["# what is at fault:", f"nix-store --realise {attribute.culprit}"]
    return lines


def _is_flake(run: RunRow) -> bool:
    return any("#" in target for target in run.targets)


def _target(run: RunRow, path: AttrPath) -> str:
    """Return the target of the run whose attribute `path` is, narrowed to it."""
    shown = show(path)
    for target in run.targets:
        place, hash_, attr = target.partition("#")
        if hash_ and (shown == attr or shown.startswith(f"{attr}.")):
            return shlex.quote(f"{place}#{shown}")
    place = run.targets[0].partition(" -A ")[0] if run.targets else "."
    return f"{place} -A {shlex.quote(shown)}"
