"""What kind of fault an evaluation error is, told from Nix's own words.

Decides only the class; the words themselves stay as Nix gave them. Patterns are anchored at the start of a message,
so that a project's text inside a `throw` seldom looks like another fault; a wrong class changes no other attribute.
Sources: `src/libexpr/{eval,primops}.cc` of Nix 2.8.0 and 2.34; each pattern is held by a test that provokes it.
"""

import re
from typing import Final

from nixmill.core.evaluation import EvalError, EvalFault
from nixmill.nix import eval_message
from nixmill.nix.attr_path import AttrPath

_PATTERNS: Final[tuple[tuple[EvalFault, re.Pattern[str]], ...]] = tuple(
    (fault, re.compile(pattern, re.DOTALL))
    for fault, pattern in (
        (EvalFault.ABORT, r"evaluation aborted with the following error message"),
        (EvalFault.ASSERTION, r"assertion '.*' failed|assertion failed|(a|an|list) .* is not equal to (a|an|list) "),
        (EvalFault.STACK_OVERFLOW, r"stack overflow|max-call-depth exceeded"),
        (EvalFault.INFINITE_RECURSION, r"infinite recursion"),
        (EvalFault.MISSING_ATTRIBUTE, r"attribute '.*' missing|attribute '.*' in selection path '.*' not found"),
        (
            EvalFault.IMPORT_FROM_DERIVATION,
            r"cannot build '.*' during evaluation because|.*'?allow-import-from-derivation'? is disabled",
        ),
        (
            EvalFault.MISSING_FILE,
            r"(getting status of '.*': No such file|opening file '.*': No such file|path '.*' does not exist).*",
        ),
        (
            EvalFault.TYPE_ERROR,
            (
                r"cannot (coerce|add|convert|compare|multiply|divide|subtract|decode|call)\b|expected .* but found"
                r"|value is .* while .* was expected|attempt to call something which is not a function"
                r"|.*called (without required|with unexpected) argument|.*value has type|.*is not of type"
            ),
        ),
        (
            EvalFault.OTHER,
            (
                r"access to (absolute|canonical|URI|path)\b|syntax error|undefined variable|invalid derivation name"
                r"|store path '.*'|path '.*' is not valid|hash mismatch|division by zero|list index|derivation name"
                r"|required attribute|attribute name|file '.*' was not found in the Nix search path"
                r"|unable to download '|Failed to open archive \(|Cannot find Git revision '"
                r"|Failed to fetch git repository '|program 'git' failed|Git repository \".*\" does not exist"
            ),
        ),
    )
)


MESSAGE_MAX: Final = 64 * 1024
"""Characters of one message: an endless recursion has an endless trace."""


def classify(message: eval_message.EvalMessage) -> EvalFault:
    """Return the class of a fault; what matches nothing known was thrown by the project."""
    if message.frames and message.frames[0].text.startswith("while calling the 'throw' builtin"):
        return EvalFault.THROW
    if any(frame.text.startswith("while evaluating the condition of the assertion") for frame in message.frames[:2]):
        return EvalFault.ASSERTION
    for fault, pattern in _PATTERNS:
        if pattern.match(message.message):
            return fault
    return EvalFault.THROW


def error(
    text: str,
    path: AttrPath,
    *,
    tree_path: str = "",
    show_trace: bool = False,
    traces: tuple[str, ...] = (),
) -> EvalError:
    """Return the record for an error Nix printed while the attribute at `path` was evaluated.

    `tree_path` is cut from the position, as is a fetched source's store path. Positions in «string» and in
    the walker's files are passed over.
    """
    parsed = eval_message.parse(text)
    return EvalError(
        path=path,
        fault=classify(parsed),
        message=_message(parsed, show_trace=show_trace) or "evaluation failed without a message",
        position=position(parsed, tree_path),
        traces=traces,
    )


def position(message: eval_message.EvalMessage, tree_path: str) -> str:
    """Return where the fault lies, or the innermost place of the project on the way to it; empty where unknown."""
    return next((p for frame in message.frames if (p := relative(frame.position, tree_path))), "")


def _message(parsed: eval_message.EvalMessage, *, show_trace: bool) -> str:
    text = parsed.message
    if show_trace:
        text = "\n\n".join([text, *(f.block for f in parsed.frames if not _ours(f.position))])
    return text if len(text) <= MESSAGE_MAX else f"{text[:MESSAGE_MAX]}\n[… {len(text)} characters]"


def _ours(position: str) -> bool:
    return position.startswith(("«string»", "«none»", "(string)")) or bool(_OURS.search(position))


_OURS: Final = re.compile(r"/nixmill-(walker|pure|worker)\.nix:")
_TROUBLE: Final = re.compile(
    r"cannot connect to|cannot open connection to|opening a connection to|unexpected Nix daemon error"
    r"|Nix daemon disconnected|(executing )?SQLite |(reading from|writing to) file: (Connection reset|Broken pipe)"
    r"|(creating|opening|writing|renaming|locking|setting|changing) [^\n]*: "
    r"(No space left on device|Permission denied|Read-only file system|Too many open files|Disk quota exceeded)"
    r"|\S+ could not be made visible in the sandbox"
    r"|unable to fork|cannot (create|allocate) |[^\n]*Resource temporarily unavailable"
)


def is_trouble(message: str) -> bool:
    """Say whether a message tells of the store or the machine rather than of the project; a project may fake it."""
    return _TROUBLE.match(message) is not None


_SOURCE: Final = re.compile(r"/(?:[^/]+/)*[0-9a-df-np-sv-z]{32}-[^/:]+/|«[^»]+»/")
"""A fetched source: copied to the store, or (in newer versions) named by its reference."""


def relative(position: str, tree_path: str) -> str:
    """Return a position relative to the tree or fetched source it lies in; nothing for the walker's own."""
    if _ours(position):
        return ""
    if tree_path and position.startswith(tree_path.rstrip("/") + "/"):
        return position[len(tree_path.rstrip("/")) + 1 :]
    return _SOURCE.sub("", position, count=1) if _SOURCE.match(position) else position
