"""Tokens for forms, paths of this site, bodies of requests."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.errors import InputError
from nixmill.web.body import Body, Kind, _parse, decode
from nixmill.web.refusal import RefusalError
from nixmill.web.security import check_csrf, local_path, masked, new_form_token


def test_a_form_token_looks_different_each_time_and_is_the_same() -> None:
    token = new_form_token()
    one, other = masked(token), masked(token)
    assert one != other
    check_csrf(one, token)
    check_csrf(other, token)


@pytest.mark.parametrize(
    "given_",
    ["", "nonsense", "AAAA", "é", masked("00" * 16), masked("ab" * 8)],
    ids=["empty", "nonsense", "short", "not ascii", "another", "half"],
)
def test_another_form_token_is_refused(given_: str) -> None:
    with pytest.raises(RefusalError) as refused:
        check_csrf(given_, "ab" * 16)
    assert refused.value.code == 403


def test_without_a_token_nothing_is_right() -> None:
    with pytest.raises(RefusalError):
        check_csrf("", "")


@pytest.mark.parametrize("path", ["/", "/p/mill?x=1#y", "/r/7/why/a%20b"])
def test_a_path_of_this_site_stays(path: str) -> None:
    assert local_path(path) == path


@given(st.text(max_size=20).map(lambda tail: "/" + tail) | st.text(max_size=20))
def test_no_text_leads_off_the_site(text: str) -> None:
    path = local_path(text)
    assert path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()


class Thing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    count: int = 1
    sure: bool = False
    many: tuple[str, ...] = ()


def test_a_form_and_json_say_the_same() -> None:
    form = _parse(
        "application/x-www-form-urlencoded; charset=utf-8", b"name=a%20b&count=2&sure=true&many=x&many=y&csrf=z"
    )
    json = _parse("application/json", b'{"name": "a b", "count": 2, "sure": true, "many": ["x", "y"]}')
    assert decode(form, Thing) == decode(json, Thing) == Thing(name="a b", count=2, sure=True, many=("x", "y"))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (Body(Kind.JSON, data=b'{"name": "a", "nmae": 1}'), "nmae"),
        (Body(Kind.FORM, {"name": ["a"], "nmae": ["b"]}), "nmae"),
        (Body(Kind.FORM, {"name": ["a"], "count": ["many"]}), "count"),
        (Body(Kind.JSON, data=b"[]"), "array"),
        (Body(Kind.NONE), "name"),
    ],
)
def test_a_wrong_field_is_named(body: Body, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        decode(body, Thing)
    assert "name, count, sure, many" in refused.value.remedy


def test_a_field_that_stands_there_twice_is_refused() -> None:
    with pytest.raises(InputError, match="2 times"):
        decode(Body(Kind.FORM, {"name": ["a", "b"]}), Thing)


@pytest.mark.parametrize(
    ("content_type", "data", "code"),
    [
        ("text/plain", b"x", 415),
        ("", b"x", 415),
        ("multipart/form-data; boundary=x", b"--x", 415),
        ("application/x-www-form-urlencoded", b"a=%ff", 400),
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 1001), 400),
        ("application/json", b"{", 400),
        ("application/json", b"\xff", 400),
    ],
)
def test_what_is_no_form_and_no_json_is_refused(content_type: str, data: bytes, code: int) -> None:
    with pytest.raises(RefusalError) as refused:
        decode(_parse(content_type, data), Thing)
    assert refused.value.code == code
