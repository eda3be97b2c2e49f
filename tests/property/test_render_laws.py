"""Laws of what is shown, for runs that make no sense and terminals of any size."""

from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.cli.render.ci import Ci
from nixmill.cli.render.live import LiveRenderer
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.plain import PlainRenderer
from tests.support.sample_run import sample_run
from tests.support.screens import Emulator

EVENTS = [event for _, event in sample_run()]
STEP = st.tuples(
    st.sampled_from(EVENTS),
    st.floats(min_value=0.0, max_value=400.0),
    st.none() | st.tuples(st.integers(20, 150), st.integers(4, 50)),
)
PAINTS = st.builds(Paint, colour=st.booleans(), unicode=st.booleans())


@settings(deadline=None)
@given(st.lists(STEP, max_size=30), PAINTS)
def test_in_any_order_and_at_any_size_one_region_stands_below_everything(
    steps: list[tuple[object, float, tuple[int, int] | None]], paint: Paint
) -> None:
    emulator = Emulator(80, 24)
    renderer = LiveRenderer(emulator, paint, emulator.size, 0.0, reflows=False)
    now = 0.0
    for event, wait, size in steps:
        if size is not None:
            emulator.resize(*size)
        renderer.handle(event)  # type: ignore[arg-type]
        now += wait + 0.1
        renderer.tick(now)
        height = len(renderer._drawn)
        assert height <= max(emulator.size()[1] // 3, 1)
        if height:
            row = emulator.screen.cursor.y
            assert not any(emulator.rows[row + 1 :])
            shown = [line.rstrip() for line in emulator.rows[row - height + 1 : row + 1]]
            assert "".join(shown).strip() != ""
    renderer.close()
    assert not emulator.cursor_hidden
    assert emulator.screen.cursor.x == 0


@settings(deadline=None)
@given(st.lists(STEP, max_size=30), PAINTS, st.sampled_from(list(Ci)))
def test_in_any_order_plain_lines_come_out(steps: list[tuple[object, float, object]], paint: Paint, ci: Ci) -> None:
    written: list[str] = []

    class Pipe:
        def write(self, text: str) -> None:
            written.append(text)

    renderer = PlainRenderer(Pipe(), paint, 0.0, ci)
    now = 0.0
    for event, wait, _ in steps:
        renderer.handle(event)  # type: ignore[arg-type]
        now += wait
        renderer.tick(now)
    renderer.close()
    assert all(text.endswith("\n") for text in written)
    assert paint.unicode or "".join(written).isascii()
