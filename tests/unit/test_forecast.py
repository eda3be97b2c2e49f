"""When a disk will be full."""

from nixmill.core.forecast import Sample, forecast

DAY = 86_400.0
GIB = 1024**3


def samples(*used: float) -> list[Sample]:
    return [Sample(place="x", at=day * DAY, used=int(each * GIB)) for day, each in enumerate(used)]


def test_steady_growth_is_a_straight_line() -> None:
    found = forecast("x", "/x", 13 * GIB, 30 * GIB, samples(10, 11, 12, 13))
    assert found.per_day_bytes == GIB
    assert found.full_in_days == 30.0


def test_what_does_not_grow_is_never_full() -> None:
    assert forecast("x", "/x", GIB, GIB, samples(5, 5, 5)).full_in_days is None
    assert forecast("x", "/x", GIB, GIB, samples(5, 4, 3)).full_in_days is None


def test_too_few_samples_say_nothing() -> None:
    assert forecast("x", "/x", GIB, GIB, []).full_in_days is None
    assert forecast("x", "/x", GIB, GIB, samples(5)).full_in_days is None


def test_old_samples_do_not_count() -> None:
    old = [Sample(place="x", at=0.0, used=0), *[Sample(place="x", at=(100 + d) * DAY, used=GIB) for d in range(5)]]
    assert forecast("x", "/x", GIB, GIB, old).full_in_days is None
