"""The command line: parse, call one function, print one line for a user's mistake. Commands are loaded when called."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from rich.console import Console

from cytolora.errors import CytoloraError

_USER_MUST_CHANGE = 2
_INTERRUPTED = 130

app = App(
    name="cytolora",
    help="Adapt vision foundation models to cytology: which model, adapted how, with how many labelled cells, gives a "
    "classifier to trust.",
    help_epilogue="Start with `cytolora demo --out demo`, which needs no data and no network.",
)
for _name, _function in {
    "demo": "experiments:demo",
    "plan": "experiments:plan",
    "run": "experiments:run",
    "report": "experiments:report",
    "ls": "catalogue:ls",
    "check": "datasets:check",
}.items():
    app.command(f"cytolora.commands.{_function}", name=_name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 done but problems were found, 2 the user must change something."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CytoloraError as error:
        console.print(f"cytolora: {_one_line(error)}")
        sys.exit(_USER_MUST_CHANGE)
    except CycloptsError as error:
        console.print(f"cytolora: {_one_line(error)} See `cytolora --help`.")
        sys.exit(_USER_MUST_CHANGE)
    except BrokenPipeError:
        sys.exit(0)  # the reader of our output, `head` say, has had enough
    except KeyboardInterrupt:
        console.print("cytolora: stopped. What was finished is kept; the same command goes on from there.")
        sys.exit(_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
