"""Evaluation against a store that is a daemon, or in trouble."""

from pathlib import Path

import pytest

from nixmill.core.evaluation import EvaluationFailedError, ExpressionTarget
from nixmill.edge.evaluator import OwnEvaluator
from tests.support.eval_project import JOB, bad, collect, good, project, request
from tests.support.nix_world import listening_daemon
from tests.support.scratch_store import ScratchStore

MANY = f"""
let
  {JOB}
  one = i: {{ name = "j${{toString i}}"; value = job "j${{toString i}}"; }};
in builtins.listToAttrs (builtins.genList one 60)
"""


async def test_a_daemon_serves_as_well(fresh_store: ScratchStore, tmp_path: Path) -> None:
    flake = project(tmp_path, {"flake.nix": f"{{ outputs = _: {{ checks.x86_64-linux = {MANY}; }}; }}"}).flake("checks")
    with listening_daemon(fresh_store):
        environment = fresh_store.environment | {"NIX_REMOTE": "daemon"}
        for target in (ExpressionTarget(text=MANY, tree_path=str(tmp_path)), flake):
            records = await collect(OwnEvaluator(environment), request(target))
            assert len(good(records)) == 60
            assert not bad(records)


async def test_without_the_daemon_nothing_is_blamed_on_the_project(fresh_store: ScratchStore, tmp_path: Path) -> None:
    environment = fresh_store.environment | {"NIX_REMOTE": "daemon"}

    with pytest.raises(EvaluationFailedError, match="The store or this machine is in trouble"):
        await collect(OwnEvaluator(environment), request(ExpressionTarget(text=MANY, tree_path=str(tmp_path))))


async def test_attributes_that_fail_for_want_of_a_store_fail_the_whole(
    fresh_store: ScratchStore, tmp_path: Path
) -> None:
    text = f"""
    let {JOB} in builtins.listToAttrs (builtins.genList (i: {{
      name = "j${{toString i}}"; value = throw "cannot connect to socket: Connection refused";
    }}) 60)"""

    with pytest.raises(EvaluationFailedError, match=r"store or this machine is in trouble.*nixmill doctor"):
        await collect(
            OwnEvaluator(fresh_store.environment), request(ExpressionTarget(text=text, tree_path=str(tmp_path)))
        )


async def test_one_attribute_that_fakes_trouble_is_an_error_of_its_own(store: ScratchStore, tmp_path: Path) -> None:
    text = f'let {JOB} in {{ a = job "a"; b = throw "cannot connect to socket"; c = job "c"; }}'

    records = await collect(
        OwnEvaluator(store.environment), request(ExpressionTarget(text=text, tree_path=str(tmp_path)))
    )

    assert bad(records).keys() == {("b",)}
    assert len(good(records)) == 2
