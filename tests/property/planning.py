"""Random worlds for the laws of plan and schedule: a graph, what a store has of it, and how each build will end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from nixmill.core.machine import Machine
from nixmill.core.outcome import Outcome
from nixmill.core.plan import Plan
from nixmill.nix.store_path import StorePath

SYSTEM = "x86_64-linux"
OUTPUTS = ("out", "dev")
ENDS = (Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.BUILD_FAILED, Outcome.TIMED_OUT)


def path_of(number: int) -> StorePath:
    return StorePath(f"/nix/store/{number:032d}-d{number}.drv")


@dataclass(frozen=True)
class Recipe:
    """One derivation of a world."""

    number: int
    inputs: dict[int, frozenset[str]]
    valid: frozenset[str]
    fetchable: frozenset[str]
    fetch_works: bool
    end: Outcome
    features: frozenset[str] = frozenset()

    @property
    def drv_path(self) -> StorePath:
        return path_of(self.number)


@dataclass(frozen=True)
class World:
    recipes: tuple[Recipe, ...]
    wanted: tuple[int, ...]

    def recipe(self, drv_path: StorePath) -> Recipe:
        return self.recipes[int(drv_path.removesuffix(".drv").rsplit("-d", 1)[1])]


@dataclass
class Naive:
    """What must come out, worked out the slow and plain way: depth first, in the order of numbers."""

    world: World
    outcome: dict[tuple[int, str], bool] = field(default_factory=dict)
    built: set[int] = field(default_factory=set)
    fetched: set[int] = field(default_factory=set)

    def good(self, number: int, names: Iterable[str]) -> bool:
        """Say whether these outputs become valid. Inputs have lower numbers, so a loop from 0 up would do as well."""
        return False not in [self._good(number, name) for name in sorted(names)]

    def _good(self, number: int, name: str) -> bool:
        key = number, name
        if key not in self.outcome:
            self.outcome[key] = self._work_out(self.world.recipes[number], name)
        return self.outcome[key]

    def _work_out(self, recipe: Recipe, name: str) -> bool:
        if name in recipe.valid:
            return True
        if name in recipe.fetchable:
            self.fetched.add(recipe.number)
            if recipe.fetch_works:
                return True
        inputs_good = [self.good(number, names) for number, names in recipe.inputs.items()]
        if False in inputs_good:
            return False
        self.built.add(recipe.number)
        return recipe.end is Outcome.SUCCEEDED


names_sets = st.sets(st.sampled_from(OUTPUTS), min_size=1).map(frozenset)


@st.composite
def worlds(draw: st.DrawFn, size_max: int = 14, *, honest: bool = False) -> World:
    """Draw a world; in an `honest` one every fetch works."""
    size = draw(st.integers(1, size_max))
    recipes = []
    for number in range(size):
        inputs = draw(st.dictionaries(st.integers(0, number - 1), names_sets, max_size=4)) if number else {}
        presence = draw(st.sampled_from(["none", "none", "valid", "partly valid", "fetch", "partly fetch"]))
        recipes.append(
            Recipe(
                number=number,
                inputs=inputs,
                valid={"valid": frozenset(OUTPUTS), "partly valid": frozenset({"dev"})}.get(presence, frozenset()),
                fetchable={"fetch": frozenset(OUTPUTS), "partly fetch": frozenset({"dev"})}.get(presence, frozenset()),
                fetch_works=honest or draw(st.booleans()),
                end=draw(st.sampled_from(ENDS)),
            )
        )
    wanted = draw(st.sets(st.integers(0, size - 1), min_size=1))
    return World(tuple(recipes), tuple(sorted(wanted)))


def want(plan: Plan, number: int) -> None:
    plan.want((f"a{number}",), path_of(number), dict.fromkeys(OUTPUTS))


def add(plan: Plan, recipe: Recipe) -> None:
    inputs = {path_of(number): names for number, names in recipe.inputs.items()}
    plan.add(
        recipe.drv_path,
        system=SYSTEM,
        features=recipe.features,
        inputs=inputs,
        outputs=dict.fromkeys(OUTPUTS),
        about_s=1,
    )


def tell(plan: Plan, recipe: Recipe) -> None:
    plan.tell(recipe.drv_path, valid=recipe.valid, fetchable=recipe.fetchable)


def answer(plan: Plan, world: World) -> None:
    """Look at everything that the plan asks for."""
    while nodes := plan.frontier():
        for node in nodes:
            add(plan, world.recipe(node.drv_path))
            tell(plan, world.recipe(node.drv_path))


def machines(*sizes: int) -> Sequence[Machine]:
    return [Machine(address=f"m{at}", systems=(SYSTEM,), max_jobs=size) for at, size in enumerate(sizes)]
