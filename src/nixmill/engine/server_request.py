"""From a change and its project to the request of a run: what it says, and what only its default branch may say.

`nixmill.toml` of the tree chooses what is evaluated and how long builds may take. What grants power (imports from
derivations) or costs the server (memory, time, workers) is read from the default branch (semantics §7).
"""

from typing import Final

from nixmill.config import FILE_NAME, ProjectConfig, read_config
from nixmill.config.server import Limits
from nixmill.core.attempt import RetryPolicy
from nixmill.core.change import Change, Origin
from nixmill.core.evaluation import EvaluationLimits, EvaluationSettings
from nixmill.core.fairness import Party
from nixmill.core.project import Project, short
from nixmill.core.source import Tree
from nixmill.core.target import read_words
from nixmill.doors import BuildLimits, Source
from nixmill.engine.owed import NOTHING, Owed
from nixmill.engine.request import RunRequest, least

MIB: Final = 1024 * 1024


async def config_of(source: Source, tree: Tree, where: str) -> ProjectConfig:
    """Return what `nixmill.toml` of a tree says; raises `InputError` that names the place."""
    text = await source.read(tree, FILE_NAME)
    return ProjectConfig() if text is None else read_config(text, f"{FILE_NAME} of {where}")


def server_request(
    change: Change,
    project: Project,
    config: ProjectConfig,
    powers: ProjectConfig,
    limits: Limits,
    *,
    mirror: str,
    base: str,
    cores: int,
    owed: Owed = NOTHING,
) -> RunRequest:
    """Return the request; `config` is of the tree that is tested, `powers` of the default branch."""
    said, build = config.evaluate, config.build
    return RunRequest(
        directory=mirror,
        words=read_words(change.targets or said.targets, file=None, expression=None, attrs=said.attributes),
        revision=change.tested or change.commit,
        base=base or None,
        base_reason=_base_reason(change, base),
        anyway=frozenset(change.anyway),
        rebuild=change.rebuild,
        evaluate_again=change.evaluate_again,
        retry=RetryPolicy(attempts_max=1 + min(build.retries, limits.retries)),
        settings=EvaluationSettings(
            systems=change.systems or said.systems,
            force_recurse=said.force_recurse,
            allow_import_from_derivation=powers.evaluate.allow_import_from_derivation,
        ),
        evaluation_limits=EvaluationLimits(
            workers=min(powers.evaluate.workers or cores, cores),
            memory_bytes=least(powers.evaluate.memory_mib, limits.evaluation_mib) * MIB,
            time_s=least(powers.evaluate.time_s, limits.evaluation_s),
            attribute_time_s=powers.evaluate.attribute_time_s,
        ),
        build_limits=BuildLimits(
            timeout_s=least(build.timeout_s, limits.build_s),
            silence_s=least(build.max_silent_s, limits.silence_s),
            log_bytes=least(build.max_log_mib, limits.log_mib) * MIB,
            output_bytes=least(build.max_output_mib, limits.output_mib) * MIB,
        ),
        number=change.number,
        same_tree_is_enough=True,
        insist=True,
        remember=change.origin is not Origin.MERGE_QUEUE,
        typed=False,
        forgive=frozenset(change.forgive),
        pin=owed.pin,
        caches=owed.caches,
        party=Party(
            run=change.number,
            project=project.id,
            name=project.name,
            weight=project.weight,
            build_class=change.build_class,
            tier=change.tier,
        ),
    )


def _base_reason(change: Change, base: str) -> str:
    if change.base_commit:
        return f"the tip of {short(change.base_ref)} that the head was merged into"
    return "checked before on this branch" if base else ""
