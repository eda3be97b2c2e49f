"""Errors that are the user's to mend. A failed build or evaluation is data, not an error."""


class InputError(Exception):
    """The request makes no sense as it stands.

    The message is a sentence that says what is wrong; `remedy` says what to type or change next.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        """Keep the sentence and the remedy apart, so that they can be shown apart."""
        super().__init__(message)
        self.remedy = remedy


class GoneError(InputError):
    """A ref or commit that was asked for is no longer there, force-pushed or deleted: perhaps nobody waits for it."""
