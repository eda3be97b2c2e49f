"""Answers that are not what was asked for: a code, a sentence, and what to do next."""

from collections.abc import Mapping


class RefusalError(Exception):
    """A request is answered with `code`; pages and JSON show message and remedy."""

    def __init__(
        self,
        code: int,
        message: str,
        remedy: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        sign_in: bool = False,
    ) -> None:
        """`sign_in`: a stranger's browser is shown the way to sign in instead."""
        super().__init__(message)
        self.code = code
        self.remedy = remedy
        self.headers = dict(headers or {})
        self.sign_in = sign_in


class MovedError(Exception):
    """What was asked for has another address now."""

    def __init__(self, location: str) -> None:
        """Keep the new address, a path of this site."""
        super().__init__(location)
        self.location = location


def not_there(what: str) -> RefusalError:
    """Return the answer 404 for `what`, such as `project mill`: the same whether it is missing or hidden."""
    return RefusalError(404, f"There is no {what} here.", "Look for it on the home page, or sign in if you know it.")
