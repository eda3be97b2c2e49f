"""Which evaluator to use."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nixmill.edge.evaluator.nix_eval_jobs import NixEvalJobsEvaluator
from nixmill.edge.evaluator.own import OwnEvaluator

if TYPE_CHECKING:
    from nixmill.edge.sandbox import Sandbox

Preference = Literal["auto", "own", "nix-eval-jobs"]


def choose(
    environment: Mapping[str, str],
    prefer: Preference = "auto",
    nix: str = "nix",
    *,
    hidden: tuple[Path, ...] = (),
    sandbox: "Sandbox | None" = None,
) -> OwnEvaluator | NixEvalJobsEvaluator:
    """Return the evaluator that is preferred; `auto` is our own. What it evaluates cannot read what is `hidden`.

    With a sandbox it evaluates there, and reads nothing but what it needs.

    Both give the same records. Ours is the default because it alone keeps every limit by itself: nix-eval-jobs ends
    as a whole when one attribute crashes a worker, and cannot say to which attribute a warning belongs.
    """
    if prefer == "nix-eval-jobs" and shutil.which("nix-eval-jobs", path=environment.get("PATH")):
        return NixEvalJobsEvaluator(environment, nix=nix, hidden=hidden, sandbox=sandbox)
    return OwnEvaluator(environment, nix, hidden=hidden, sandbox=sandbox)
