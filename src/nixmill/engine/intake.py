"""Takes in what an evaluator yields: leases it, compares it with the base, and hands on what has to be planned."""

from collections.abc import Sequence

from nixmill.core.diff import Base
from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvalRecord,
    EvaluationEnded,
    EvaluationTrace,
    ImportFromDerivation,
)
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import AttributeErred, AttributeFound, ImportedFromDerivation, Noticed
from nixmill.engine.build_site import BuildSite
from nixmill.engine.duties import Duties
from nixmill.engine.parts import Parts
from nixmill.engine.request import RunRequest, Tell
from nixmill.engine.result import Result
from nixmill.engine.settlement import Settlement
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class Intake:
    """The records of one evaluation on their way into the plan."""

    def __init__(
        self, site: BuildSite, duties: Duties, settlement: Settlement, tell: Tell, request: RunRequest
    ) -> None:
        """Hand on to `site`; what the request wants anyway is not skipped for being equal to the base."""
        self._site = site
        self._duties = duties
        self._settlement = settlement
        self._tell = tell
        self._base: Base | None = None
        self._request = request
        self.attributes: dict[AttrPath, Attribute] = {}
        self.errors: list[EvalError] = []
        self.skipped = 0
        """Attributes that are not planned, since they equal a base of which the outcome is known."""
        self.changed = 0
        """Attributes that are new or differ from the base; all of them while there is none."""
        self.ended: EvaluationEnded | None = None
        self.parts: Parts | None = None
        """Hears of each new record where the evaluation is recorded while it goes on."""

    def compare_with(self, base: Base) -> None:
        """Learn the base; attributes may have come before."""
        self._base = base
        self.changed = sum(1 for attribute in self.attributes.values() if not base.same(attribute))

    async def take(self, records: Sequence[EvalRecord]) -> None:
        """Take a group of records. Derivations are leased before this returns (semantics §2)."""
        valid = await self._lease([record for record in records if isinstance(record, Attribute)])
        await self._duties.imported({each.drv_path for each in records if isinstance(each, ImportFromDerivation)})
        for record in records:
            self._take(record, valid)
        await self._site.grow()

    async def _lease(self, attributes: Sequence[Attribute]) -> set[StorePath]:
        paths = {attribute.drv_path for attribute in attributes}
        for attribute in attributes:
            paths.update(path for path in attribute.outputs.values() if path is not None)
        return await self._duties.lease(paths)

    def _take(self, record: EvalRecord, valid: set[StorePath]) -> None:
        match record:
            case Attribute():
                self._take_attribute(record, valid)
            case EvalError():
                self.errors.append(record)
                self._note(record)
                self._settlement.errors.append(record)
                self._tell(AttributeErred(error=record))
            case ImportFromDerivation():
                self._tell(ImportedFromDerivation(build=record))
            case EvaluationTrace():
                self._tell(Noticed(text=record.text))
            case EvaluationEnded():
                self.ended = record

    def _note(self, record: EvalRecord) -> None:
        if self.parts is not None:
            self.parts.add(record)

    def _take_attribute(self, attribute: Attribute, valid: set[StorePath]) -> None:
        if attribute.path in self.attributes:
            return  # two targets overlap
        self.attributes[attribute.path] = attribute
        self._note(attribute)
        self.changed += self._base is None or not self._base.same(attribute)
        self._tell(AttributeFound(attribute=attribute))
        anyway = attribute.path in self._request.anyway
        if not anyway and (before := self._settlement.stands(attribute)) is not None:
            self._settlement.settle(before)
            return
        anyway |= self._request.rebuild
        known = self._base.reuse(attribute) if self._base is not None and not anyway else None
        if known is not None and known.outcome is Outcome.SUCCEEDED and self._duties.bound:
            known = None  # it is equal to something good, and still has to be kept and published
        present = all(path is not None and path in valid for path in attribute.outputs.values())
        if known is None or present:
            self._site.want(attribute, valid)
        else:
            self.skipped += 1
            self._settlement.settle(
                Result(attribute=attribute, outcome=known.outcome, how=known.how, culprit=known.culprit)
            )
