"""Evaluators: our own, which needs only the nix command, and nix-eval-jobs where it is installed.

Main path: `own.py` (a request) → `crew.py` (workers) → `worker.py` (a process) → `walker.nix` (the walk) →
`log_lines.py` (its output) → `records.py` (records).
"""

from nixmill.edge.evaluator.choose import Preference, choose
from nixmill.edge.evaluator.nix_eval_jobs import NixEvalJobsEvaluator
from nixmill.edge.evaluator.own import OwnEvaluator

__all__ = ["NixEvalJobsEvaluator", "OwnEvaluator", "Preference", "choose"]
