"""How often something may be tried."""

from nixmill.web import rate_limit
from nixmill.web.rate_limit import RateLimit, keys_of


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_wait_ends_when_the_oldest_try_leaves_the_window() -> None:
    time = Time()
    limit = RateLimit(2, time, window_s=60)
    assert limit.take(["a"]) == 0
    time.now += 20
    assert limit.take(["a"]) == 0
    assert limit.take(["a"]) == 40
    time.now += 39
    assert limit.take(["a"]) == 1
    time.now += 1
    assert limit.take(["a"]) == 0
    assert limit.take(["a"]) == 20


def test_a_refused_try_counts_under_no_key() -> None:
    limit = RateLimit(1, Time(), window_s=60)
    limit.take(["a"])
    assert limit.take(["a", "b"]) > 0
    assert limit.take(["b"]) == 0


def test_a_good_try_is_taken_back() -> None:
    limit = RateLimit(1, Time(), window_s=60)
    for _ in range(3):
        assert limit.take(["a", "b"]) == 0
        limit.give_back(["a", "b"])
    assert limit._seen == {}


def test_what_is_remembered_is_bounded() -> None:
    limit = RateLimit(1, Time(), window_s=60)
    for number in range(rate_limit.KEYS_MAX + 10):
        limit.take([str(number)])
    assert len(limit._seen) == rate_limit.KEYS_MAX
    assert limit.take(["0"]) == 0
    assert limit.take([str(rate_limit.KEYS_MAX)]) > 0


def test_names_count_whatever_their_case_and_addresses_by_their_network() -> None:
    assert keys_of("Anna", "192.0.2.1") == ("account anna", "address 192.0.2.1")
    one, other = keys_of("x", "2001:db8::1"), keys_of("x", "2001:db8::ffff:1")
    assert one == other == ("account x", "address 2001:db8::/64")
    assert keys_of("x", "") == ("account x", "address ")
