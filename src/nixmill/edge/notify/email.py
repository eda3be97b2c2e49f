"""A message as e-mail, by SMTP in a thread.

The Message-ID follows from the message: a reader that gets it twice shows it once. Headers are made by the standard
library, which refuses line ends in them; addresses are checked before.
Source: RFC 5321 (replies: 4yz may succeed later, 5yz will not), RFC 3834 (`Auto-Submitted`).
"""

import asyncio
import contextlib
import os
import smtplib
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Final

from nixmill.config.server import SmtpSettings
from nixmill.core.message import Parcel
from nixmill.core.message_text import is_address
from nixmill.core.terminal_text import sanitise
from nixmill.doors import DoorError
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.notify.webhook import delivery_id

TIME_LIMIT_S: Final = 30.0
"""Of each step of the conversation."""


class EmailCourier:
    """Implements `nixmill.doors.server.Courier`.

    Where the connection breaks after the server took the message and before it said so, the message goes out again.
    Cancelling does not stop a conversation that has begun.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        credentials: Credentials,
        *,
        time_limit_s: float = TIME_LIMIT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Hand messages to the SMTP server of the settings; `tls` replaces the system's authorities."""
        self._settings = settings
        self._credentials = credentials
        self._time_limit_s = time_limit_s
        self._tls = tls

    async def deliver(self, parcel: Parcel) -> None:
        """See `Courier`."""
        if not is_address(parcel.target):
            raise _error(f"{parcel.target!r} is no e-mail address. Mend the rule.", parcel.target, retryable=False)
        mail = message(parcel, self._settings.sender)
        await asyncio.wrap_future(_in_thread(lambda: self._deliver(parcel, mail)))

    def _deliver(self, parcel: Parcel, mail: EmailMessage) -> None:
        server = f"{self._settings.host}:{self._settings.port}"
        try:
            with contextlib.closing(self._connected()) as smtp:
                self._sign_in(smtp)
                smtp.send_message(mail, parseaddr(self._settings.sender)[1], [parcel.target])
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    smtp.quit()  # the server has the message, however the farewell goes
        except (OSError, smtplib.SMTPException) as error:
            raise _fault(error, server, parcel.target) from None

    def _connected(self) -> smtplib.SMTP:
        settings = self._settings
        if settings.security == "tls":
            return smtplib.SMTP_SSL(settings.host, settings.port, timeout=self._time_limit_s, context=self._context())
        smtp = smtplib.SMTP(settings.host, settings.port, timeout=self._time_limit_s)
        if settings.security == "starttls":
            with contextlib.ExitStack() as stack:
                stack.callback(smtp.close)
                smtp.starttls(context=self._context())
                stack.pop_all()
        return smtp

    def _context(self) -> ssl.SSLContext:
        return self._tls or ssl.create_default_context(cafile=os.environ.get("NIX_SSL_CERT_FILE") or None)

    def _sign_in(self, smtp: smtplib.SMTP) -> None:
        if self._settings.user:
            smtp.login(self._settings.user, self._credentials.of_settings(self._settings.password))


def message(parcel: Parcel, sender: str) -> EmailMessage:
    """Return a message as plain text in UTF-8, lines as they are."""
    domain = parseaddr(sender)[1].rpartition("@")[2] or "localhost"
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = parcel.target
    mail["Subject"] = parcel.title
    mail["Date"] = format_datetime(datetime.fromtimestamp(parcel.created_at, UTC))
    mail["Message-ID"] = f"<{delivery_id(parcel.key)}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    if parcel.run is not None:
        mail["X-Nixmill-Run"] = str(parcel.run)
    mail.set_content(parcel.text, cte="quoted-printable")
    return mail


def _in_thread(work: Callable[[], None]) -> Future[None]:
    """Start a thread of its own: a mail server that hangs must neither use up a pool nor hold up the end."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the one who waits hears it
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name="nixmill-smtp", daemon=True).start()
    return future


def _fault(error: OSError | smtplib.SMTPException, server: str, target: str) -> DoorError:
    match error:
        case smtplib.SMTPRecipientsRefused():
            return _answered(server, *next(iter(error.recipients.values())), target)
        case smtplib.SMTPAuthenticationError():
            return _set_up(f"{server} refused user and password ({_said(error.smtp_error)})", target)
        case smtplib.SMTPResponseException():
            return _answered(server, error.smtp_code, error.smtp_error, target)
        case smtplib.SMTPNotSupportedError():
            return _set_up(f"{server} does not do what the settings ask for ({_said(error)})", target)
        case _:
            why = _said(getattr(error, "strerror", None) or error)
            return _error(f"The mail server {server} could not be reached: {why}.", target, retryable=True)


def _answered(server: str, code: int, said: bytes | str, target: str) -> DoorError:
    """Return the error for a reply; 5yz is meant to be final, everything else may be different later."""
    final = 500 <= code < 600
    step = " Mend the rule's target, then send the message again." if final else ""
    return _error(f"The mail server {server} answered {code} ({_said(said)}).{step}", target, retryable=not final)


def _set_up(what: str, target: str) -> DoorError:
    """Return the error for settings that do not work: no message is lost for it before somebody can mend them."""
    return _error(f"The mail server {what}. Mend [smtp] in the server's settings.", target, retryable=True)


def _said(said: object) -> str:
    return sanitise(said.decode(errors="replace") if isinstance(said, bytes) else str(said), colour=False, limit=200)


def _error(sentence: str, target: str, *, retryable: bool) -> DoorError:
    return DoorError(sentence, door="notify", action="deliver", subject=target, retryable=retryable)
