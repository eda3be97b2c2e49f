"""nix-eval-jobs as an evaluator, with the same records as our own.

It is given the walker's tree, so that what is a job and which sets are opened is decided in one place (`walker.nix`). What it
leaves unanswered is asked of our own evaluator: all that was left when it gave up (one lost worker ends all of
it), and names that it cannot address.
Source: nix-eval-jobs 2.9 to 2.33, `src/`.
"""

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvalRecord,
    EvaluationEnded,
    EvaluationRequest,
    EvaluationTrace,
    ImportFromDerivation,
    Target,
)
from nixmill.edge.evaluator import complaints, faults, source_text
from nixmill.edge.evaluator.jobs_process import JobsProcess
from nixmill.edge.evaluator.own import OwnEvaluator
from nixmill.edge.evaluator.probe import Probe
from nixmill.edge.evaluator.source_text import Group, groups
from nixmill.nix import eval_record
from nixmill.nix.attr_path import AttrPath
