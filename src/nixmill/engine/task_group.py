"""What a task group was left by."""


def innermost(error: BaseException) -> BaseException:
    """Return the first error of a group, however deep it lies; any other error as it is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
