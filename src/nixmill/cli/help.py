"""How help looks: examples first, then one line for each option or command, in columns, without boxes."""

from typing import Any, Final

from cyclopts.help import HelpEntry, HelpPanel
from rich.console import Console, ConsoleOptions

COLUMN: Final = 26
WIDTH_MAX: Final = 100


class PlainHelp:
    """Implements cyclopts' `HelpFormatter`."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one group of options, or the list of commands."""
        entries = [entry for entry in panel.entries if not _is_own(entry)]
        if not entries or str(panel.title) == "Arguments":
            return
        console.print(f"{panel.title}:", markup=False, highlight=False, style="bold")
        for entry in entries:
            text = f"  {_label(entry):<{COLUMN}}{_first_line(entry)}"
            console.print(text[: min(options.max_width, WIDTH_MAX)], markup=False, highlight=False, no_wrap=True)

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:  # noqa: ANN401 - whatever cyclopts renders
        """Print the sentence and the examples as they were written."""
        del options
        console.print(
            _plain(description).rstrip() + "\n", markup=False, highlight=False, no_wrap=True, overflow="ignore"
        )


def _is_own(entry: HelpEntry) -> bool:
    return "--help" in entry.names or "--version" in entry.names


def _label(entry: HelpEntry) -> str:
    """Return the names, short ones first, and what the value is."""
    names = sorted(entry.display_labels, key=len)
    values = f" {entry.metavar}" if entry.metavar and not entry.positional_label else ""
    label = ", ".join(names) + values.replace("STR", "TEXT").replace("INT", "N").replace("CHOICE", "WORD")
    return label if len(label) < COLUMN else f"{label} "


def _first_line(entry: HelpEntry) -> str:
    return _plain(entry.description).strip().split("\n")[0]


def _plain(text: Any) -> str:  # noqa: ANN401 - likewise
    """Return the text of whatever cyclopts made of it."""
    inner = getattr(text, "primary_renderable", text)
    return str(getattr(inner, "plain", inner) or "")
