"""Couriers against real servers: SMTP in a process of its own, HTTP on loopback."""

import asyncio
import email
import email.policy
import hashlib
import logging
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nixmill.config.server import MatrixSettings, SmtpSettings
from nixmill.core.message import ChannelKind, Parcel
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.notify.email import EmailCourier
from nixmill.edge.notify.matrix import MatrixCourier
from nixmill.edge.notify.outgoing import Outgoing, is_public
from nixmill.edge.notify.slack import SlackCourier
from nixmill.edge.notify.webhook import WebhookCourier
from nixmill.edge.retry_after import retry_after_s
from tests.support.receiver import Receiver, answer, certificate, receiving
from tests.support.smtp_server import Options, SmtpServer, smtp_server

SECRET = "correct horse"  # noqa: S105 - of a test
TITLE = "✖ mill main: failed, 1 attribute newly failing"
TEXT = "✖ Failed after 3 s: hello <b>&co</b> failed.\n\n.a line with a dot\n" + "long " * 100 + "\n@channel look\n"


def _parcel(channel: ChannelKind, target: str, **changes: Any) -> Parcel:  # noqa: ANN401 - fields of a struct
    parcel = Parcel(
        id=5,
        key=f"12:3:{target}",
        project=1,
        run=12,
        channel=channel,
        target=target,
        credential="",
        title=TITLE,
        text=TEXT,
        body='{"version":1,"run":12,"project":"müll"}',
        created_at=1_700_000_000.0,
    )
    return msgspec.structs.replace(parcel, **changes)


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    secrets = {"notify-secret": SECRET, "notify-empty": " ", "smtp-password": "pass", "matrix-token": "syt_abc"}
    files = {name: tmp_path / name for name in secrets}
    for name, path in files.items():
        path.write_text(secrets[name] + "\n")
    return Credentials({**files, "notify-missing": tmp_path / "not there"})


@pytest.fixture
def outgoing() -> Outgoing:
    return Outgoing(private_targets=True, time_limit_s=0.5)


# E-mail


@pytest.fixture(scope="module")
def smtp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpServer]:
    with smtp_server(tmp_path_factory.mktemp("smtp")) as server:
        yield server


def _email(server: SmtpServer, credentials: Credentials, **changes: Any) -> EmailCourier:  # noqa: ANN401 - likewise
    tls = changes.pop("tls", None)
    settings = SmtpSettings(host="127.0.0.1", port=server.port, security="none", sender="nixmill <ci@example.org>")
    return EmailCourier(msgspec.structs.replace(settings, **changes), credentials, tls=tls, time_limit_s=5)


def _taken(server: SmtpServer, target: str) -> list[dict[str, Any]]:
    return [message for message in server.messages() if message["to"] == [target]]


def _read(message: dict[str, Any]) -> EmailMessage:
    mail = email.message_from_string(message["content"], policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    return mail


async def test_an_email_arrives_as_it_was_written(smtp: SmtpServer, credentials: Credentials) -> None:
    await _email(smtp, credentials).deliver(_parcel(ChannelKind.EMAIL, "alice@example.org"))
    (message,) = _taken(smtp, "alice@example.org")
    mail = _read(message)
    assert message["from"] == "ci@example.org"
    assert mail["From"] == "nixmill <ci@example.org>"
    assert mail["To"] == "alice@example.org"
    assert mail["Subject"] == TITLE
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Nixmill-Run"] == "12"
    assert mail["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert mail.get_content_type() == "text/plain"
    assert mail["Content-Type"].params == {"charset": "utf-8"}
    assert mail.get_content().replace("\r\n", "\n") == TEXT


async def test_an_email_that_comes_twice_has_the_same_id(smtp: SmtpServer, credentials: Credentials) -> None:
    courier, parcel = _email(smtp, credentials), _parcel(ChannelKind.EMAIL, "twice@example.org")
    await courier.deliver(parcel)
    await courier.deliver(parcel)
    await courier.deliver(msgspec.structs.replace(parcel, key="13:3:twice@example.org"))
    first, second, other = (_read(message)["Message-ID"] for message in _taken(smtp, "twice@example.org"))
    assert first == second != other
    assert first.endswith("@example.org>")


@pytest.mark.parametrize(
    ("target", "again", "words"),
    [
        ("gone@example.org", False, "550 .*No such user\\)"),
        ("spam@example.org", False, "554 .*We do not like this"),
        ("full@example.org", True, "452 .*Mailbox full"),
        ("busy@example.org", True, "421 .*Too busy"),
        ("drop@example.org", True, "could not be reached"),
        ("two@example.org, three@example.org", False, "no e-mail address"),
        ("x@example.org\nBcc: y@example.org", False, "no e-mail address"),
    ],
)
async def test_what_a_mail_server_says_decides_about_another_try(
    smtp: SmtpServer, credentials: Credentials, target: str, *, again: bool, words: str
) -> None:
    with pytest.raises(DoorError, match=words) as caught:
        await _email(smtp, credentials).deliver(_parcel(ChannelKind.EMAIL, target))
    assert caught.value.retryable == again
    assert _taken(smtp, target) == []


async def test_a_greylisting_server_takes_the_second_try(smtp: SmtpServer, credentials: Credentials) -> None:
    courier, parcel = _email(smtp, credentials), _parcel(ChannelKind.EMAIL, "later@example.org")
    with pytest.raises(DoorError, match="451") as caught:
        await courier.deliver(parcel)
    assert caught.value.retryable
    await courier.deliver(parcel)
    assert len(_taken(smtp, "later@example.org")) == 1


async def test_what_was_taken_is_delivered_however_the_farewell_goes(
    smtp: SmtpServer, credentials: Credentials
) -> None:
    for number in range(5):
        parcel = _parcel(ChannelKind.EMAIL, "farewell@example.org", key=str(number))
        await _email(smtp, credentials).deliver(parcel)
    assert len(_taken(smtp, "farewell@example.org")) == 5


async def test_a_line_end_in_a_title_is_no_header(smtp: SmtpServer, credentials: Credentials) -> None:
    with pytest.raises(ValueError, match="linefeed or carriage return"):
        await _email(smtp, credentials).deliver(
            _parcel(ChannelKind.EMAIL, "a@example.org", title="x\r\nBcc: b@example.org")
        )


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_email_is_encrypted_and_signed_in(tmp_path: Path, credentials: Credentials, security: str) -> None:
    pem = certificate(tmp_path / "pem", "127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(pem))
    changes = {"security": security, "user": "mill", "password": "smtp-password"}
    with smtp_server(tmp_path, Options(security, "pass", str(pem))) as server:
        await _email(server, credentials, tls=trusting, **changes).deliver(
            _parcel(ChannelKind.EMAIL, "alice@example.org")
        )
        (message,) = server.messages()
        assert (message["tls"], message["signed in"]) == (True, True)
        with pytest.raises(DoorError, match=r"(?i)certificate") as caught:
            await _email(server, credentials, **changes).deliver(_parcel(ChannelKind.EMAIL, "b@example.org"))
        assert caught.value.retryable
        wrong = {**changes, "password": "matrix-token"}
        with pytest.raises(DoorError, match=r"refused user and password.*Mend") as caught:
            await _email(server, credentials, tls=trusting, **wrong).deliver(
                _parcel(ChannelKind.EMAIL, "b@example.org")
            )
        assert "syt_abc" not in str(caught.value)
        assert len(server.messages()) == 1


async def test_email_never_goes_in_the_clear_where_that_was_not_asked_for(
    smtp: SmtpServer, credentials: Credentials
) -> None:
    with pytest.raises(DoorError, match="does not do what the settings ask for"):
        await _email(smtp, credentials, security="starttls").deliver(_parcel(ChannelKind.EMAIL, "clear@example.org"))
    assert _taken(smtp, "clear@example.org") == []


async def test_a_mail_server_that_is_not_there_may_come_back(credentials: Credentials) -> None:
    settings = SmtpSettings(host="127.0.0.1", port=await _closed_port(), security="none")
    with pytest.raises(DoorError, match="Connection refused") as caught:
        await EmailCourier(settings, credentials).deliver(_parcel(ChannelKind.EMAIL, "a@example.org"))
    assert caught.value.retryable


async def _closed_port() -> int:
    async with receiving() as receiver:
        return receiver.port


# Webhooks


def _hmac(secret: bytes, message: bytes) -> str:
    """HMAC-SHA256 by its definition (RFC 2104), not by the library that signs."""
    block = secret.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).hexdigest()


async def test_a_webhook_is_signed_over_its_raw_body(outgoing: Outgoing, credentials: Credentials) -> None:
    async with receiving() as receiver:
        parcel = _parcel(ChannelKind.WEBHOOK, f"{receiver.address}/ci?x=1", credential="notify-secret")
        await WebhookCourier(outgoing, credentials).deliver(parcel)
        await WebhookCourier(outgoing, credentials).deliver(parcel)
    first, again = receiver.requests
    assert (first.method, first.path) == ("POST", "/ci?x=1")
    assert first.body == parcel.body.encode()
    assert first.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["x-nixmill-event"] == "run ended"
    assert first.headers["x-nixmill-signature"] == "sha256=" + _hmac(SECRET.encode(), first.body)
    assert first.headers["x-nixmill-delivery"] == again.headers["x-nixmill-delivery"]
    assert len(first.headers["x-nixmill-delivery"]) == 32


async def test_a_webhook_without_a_secret_has_no_signature(outgoing: Outgoing, credentials: Credentials) -> None:
    async with receiving() as receiver:
        await WebhookCourier(outgoing, credentials).deliver(_parcel(ChannelKind.WEBHOOK, receiver.address))
    assert "x-nixmill-signature" not in receiver.requests[0].headers


@pytest.mark.parametrize(
    ("status", "again"),
    [
        ("301 Moved", False),
        ("400 Bad", False),
        ("404 Not Found", False),
        ("410 Gone", False),
        ("408 Slow", True),
        ("429 Much", True),
        ("500 Oops", True),
        ("503 Busy", True),
    ],
)
async def test_what_a_server_answers_decides_about_another_try(
    outgoing: Outgoing, credentials: Credentials, status: str, *, again: bool
) -> None:
    async with receiving(answer(status, "Location: http://127.0.0.1:1/", body=b"why\x1b[31m not")) as receiver:
        with pytest.raises(DoorError, match=f"answered {status[:3]} .why not") as caught:
            await WebhookCourier(outgoing, credentials).deliver(
                _parcel(ChannelKind.WEBHOOK, f"{receiver.address}/s3cret")
            )
    assert caught.value.retryable == again
    assert "s3cret" not in str(caught.value)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("Retry-After: 120", 120, 120),
        (f"Retry-After: {format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)}", 3000, 3600),
        ("Retry-After: 99999999999999999999", 86_400, 86_400),
    ],
    ids=["seconds", "date", "too large"],
)
async def test_the_time_that_a_server_names_is_told(
    outgoing: Outgoing, credentials: Credentials, header: str, least: float, most: float
) -> None:
    async with receiving(answer("429 Too Many Requests", header)) as receiver:
        with pytest.raises(RetryLaterError) as caught:
            await WebhookCourier(outgoing, credentials).deliver(_parcel(ChannelKind.WEBHOOK, receiver.address))
    assert least <= caught.value.after_s <= most


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "٣", "Mon, 99 Foo"])
def test_a_time_without_meaning_is_none(value: str) -> None:
    assert retry_after_s(value, time.time()) is None


async def test_a_server_that_does_not_answer_in_time_is_tried_again(
    outgoing: Outgoing, credentials: Credentials
) -> None:
    async with receiving(None) as receiver:
        with pytest.raises(DoorError, match=r"did not answer within 0.5 s|could not be reached") as caught:
            await WebhookCourier(outgoing, credentials).deliver(_parcel(ChannelKind.WEBHOOK, receiver.address))
    assert caught.value.retryable


async def test_an_endless_answer_is_cut(outgoing: Outgoing, credentials: Credentials) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 100_000
    async with receiving(endless) as receiver:
        await WebhookCourier(outgoing, credentials).deliver(_parcel(ChannelKind.WEBHOOK, receiver.address))
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("nonsense", "again"),
    [(b"220 smtp.example.org ESMTP\r\n", True), (b"", True)],
)
async def test_something_that_is_no_http_is_tried_again(
    outgoing: Outgoing, credentials: Credentials, nonsense: bytes, *, again: bool
) -> None:
    async with receiving(nonsense) as receiver:
        with pytest.raises(DoorError, match="could not be reached") as caught:
            await WebhookCourier(outgoing, credentials).deliver(_parcel(ChannelKind.WEBHOOK, receiver.address))
    assert caught.value.retryable == again


async def test_a_server_that_is_not_there_may_come_back(outgoing: Outgoing, credentials: Credentials) -> None:
    for target in (f"http://127.0.0.1:{await _closed_port()}/", "http://no-such-host.invalid/"):
        with pytest.raises(DoorError, match="could not be reached") as caught:
            await WebhookCourier(outgoing, credentials).deliver(_parcel(ChannelKind.WEBHOOK, target))
        assert caught.value.retryable


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/", "file:///etc/passwd", "nonsense", "http://", "http://a b/"])
async def test_what_is_no_web_address_is_refused(outgoing: Outgoing, credentials: Credentials, target: str) -> None:
    with pytest.raises(DoorError) as caught:
        await WebhookCourier(outgoing, credentials).deliver(_parcel(ChannelKind.WEBHOOK, target))
    assert not caught.value.retryable


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0"])  # noqa: S104 - nothing is bound
async def test_private_addresses_are_refused_however_they_are_written(credentials: Credentials, host: str) -> None:
    async with receiving() as receiver:
        with pytest.raises(DoorError, match=r"private address.*private_targets") as caught:
            await WebhookCourier(Outgoing(), credentials).deliver(
                _parcel(ChannelKind.WEBHOOK, f"http://{host}:{receiver.port}/")
            )
    assert not caught.value.retryable
    assert receiver.requests == []


async def test_a_name_that_resolves_to_something_else_the_second_time_gains_nothing(
    credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked is what is connected to: the name is looked up once (DNS rebinding)."""
    looked_up: list[str] = []

    async def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        looked_up.append(host)
        address = "203.0.113.1" if len(looked_up) > 1 else "10.0.0.7"
        return [(0, 0, 0, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    with pytest.raises(DoorError, match="private address"):
        await WebhookCourier(Outgoing(), credentials).deliver(_parcel(ChannelKind.WEBHOOK, "http://rebind.example/"))
    assert looked_up == ["rebind.example"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("127.9.9.9", False),
        ("0.0.0.0", False),  # noqa: S104 - likewise
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:1.1.1.1", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::101:101", True),
        ("2002:a00:1::", False),
        ("nonsense", False),
    ],
)
def test_which_addresses_are_public(address: str, *, public: bool) -> None:
    assert is_public(address) == public


async def test_a_certificate_is_checked_against_the_name(tmp_path: Path, credentials: Credentials) -> None:
    """The connection goes to an address; name, certificate and `Host` still belong together."""
    pem = certificate(tmp_path / "pem", "localhost")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    trusting = Outgoing(private_targets=True, tls=ssl.create_default_context(cafile=str(pem)))
    async with receiving(tls=serving) as receiver:
        good = _parcel(ChannelKind.WEBHOOK, f"https://localhost:{receiver.port}/")
        await WebhookCourier(trusting, credentials).deliver(good)
        assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"
        wrong_name = _parcel(ChannelKind.WEBHOOK, f"https://127.0.0.1:{receiver.port}/")
        with pytest.raises(DoorError, match=r"(?i)certificate"):
            await WebhookCourier(trusting, credentials).deliver(wrong_name)
        with pytest.raises(DoorError, match=r"(?i)certificate"):
            await WebhookCourier(Outgoing(private_targets=True), credentials).deliver(good)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smtp-password", "begins with 'notify-'"),
        ("notify-nothing", "no such credential"),
        ("notify-missing", "No such file"),
        ("notify-empty", "empty"),
    ],
)
async def test_a_credential_that_cannot_be_used_is_told(
    outgoing: Outgoing, credentials: Credentials, name: str, words: str
) -> None:
    async with receiving() as receiver:
        with pytest.raises(DoorError, match=words) as caught:
            await WebhookCourier(outgoing, credentials).deliver(
                _parcel(ChannelKind.WEBHOOK, receiver.address, credential=name)
            )
    assert not caught.value.retryable
    assert receiver.requests == []


# Slack and Matrix


async def test_slack_gets_text_that_stays_text(outgoing: Outgoing, credentials: Credentials) -> None:
    async with receiving() as receiver:
        await SlackCourier(outgoing, credentials).deliver(_parcel(ChannelKind.SLACK, receiver.address))
    said = msgspec.json.decode(receiver.requests[0].body)
    assert "hello &lt;b&gt;&amp;co&lt;/b&gt; failed" in said["text"]
    assert "@channel" not in said["text"]
    assert said["mrkdwn"] is False


async def test_slack_text_is_cut_visibly(outgoing: Outgoing, credentials: Credentials) -> None:
    async with receiving() as receiver:
        await SlackCourier(outgoing, credentials).deliver(
            _parcel(ChannelKind.SLACK, receiver.address, text="x" * 50_000)
        )
    said = msgspec.json.decode(receiver.requests[0].body)["text"]
    assert len(said) == 4000
    assert said.endswith("the rest is on the page of the run)")


async def test_the_address_of_a_slack_webhook_can_be_a_secret(
    outgoing: Outgoing, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiving(answer("404 Not Found", body=b"no_service")) as receiver:
        (tmp_path / "url").write_text(f"{receiver.address}/services/T0/s3cret\n")
        courier = SlackCourier(outgoing, Credentials({"notify-slack": tmp_path / "url"}))
        with pytest.raises(DoorError, match="404") as caught:
            await courier.deliver(_parcel(ChannelKind.SLACK, "#builds", credential="notify-slack"))
    assert receiver.requests[0].path == "/services/T0/s3cret"
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in caplog.text


def _matrix(receiver: Receiver, credentials: Credentials, token: str = "matrix-token") -> MatrixCourier:  # noqa: S107 - a name
    # The homeserver is the administrator's choice, so it may be at a private address.
    return MatrixCourier(MatrixSettings(homeserver=f"{receiver.address}/", token=token), Outgoing(), credentials)


async def test_matrix_gets_a_notice_with_a_transaction_of_its_own(credentials: Credentials) -> None:
    parcel = _parcel(ChannelKind.MATRIX, "!ab/c?d:example.org")
    async with receiving() as receiver:
        await _matrix(receiver, credentials).deliver(parcel)
        await _matrix(receiver, credentials).deliver(parcel)
        await _matrix(receiver, credentials).deliver(msgspec.structs.replace(parcel, key="other"))
    first, again, other = receiver.requests
    assert first.method == "PUT"
    assert first.path.startswith("/_matrix/client/v3/rooms/%21ab%2Fc%3Fd%3Aexample.org/send/m.room.message/")
    assert first.path == again.path != other.path
    assert first.headers["authorization"] == "Bearer syt_abc"
    event = msgspec.json.decode(first.body)
    assert (event["msgtype"], event["body"], event["m.mentions"]) == ("m.notice", TEXT, {})
    assert (
        "<strong>✖ Failed after 3 s: hello &lt;b&gt;&amp;co&lt;/b&gt; failed.</strong><br/>" in event["formatted_body"]
    )


async def test_matrix_names_its_time_in_milliseconds(credentials: Credentials) -> None:
    limited = answer("429 Limited", body=b'{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}')
    async with receiving(limited) as receiver:
        with pytest.raises(RetryLaterError, match="M_LIMIT_EXCEEDED") as caught:
            await _matrix(receiver, credentials).deliver(_parcel(ChannelKind.MATRIX, "!a:example.org"))
    assert caught.value.after_s == 2.5


async def test_an_event_is_never_larger_than_matrix_takes(credentials: Credentials) -> None:
    async with receiving() as receiver:
        for nasty in ("𝕏", "&", "\n", "\x00"):
            parcel = _parcel(ChannelKind.MATRIX, "!a:example.org", text=nasty * 50_000)
            await _matrix(receiver, credentials).deliver(parcel)
    assert max(len(request.body) for request in receiver.requests) < 65_000


async def test_matrix_without_a_token_says_so(credentials: Credentials) -> None:
    async with receiving() as receiver:
        with pytest.raises(DoorError, match="no access token"):
            await _matrix(receiver, credentials, "").deliver(_parcel(ChannelKind.MATRIX, "!a:example.org"))
    assert receiver.requests == []
