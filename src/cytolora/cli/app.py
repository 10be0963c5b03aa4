"""The command line: parse, call one function, print one line for a user's mistake. Commands are loaded when called."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from cytolora.cli.console import make_console, print_any_text
from cytolora.errors import CytoloraError, how_to_install

_USER_MUST_CHANGE = 2
_INTERRUPTED = 130

app = App(
    name="cytolora",
    help="Adapt vision foundation models to cytology: which model, adapted how, with how many labelled cells, gives a "
    "classifier to trust.",
    suppress_keyboard_interrupt=False,  # main says what Ctrl-C leaves
    help_epilogue="Start with `cytolora demo --out demo`, which needs no data and no network.",
)
_COMMANDS = {
    "demo": ("experiments:demo", "Shows the whole way on drawn cells: no data, no network."),
    "run": ("experiments:run", "Runs what is missing of a grid; resumable."),
    "plan": ("experiments:plan", "Lists what a grid asks for and what is stored."),
    "report": ("experiments:report", "Builds tables, figures and one page from stored runs."),
    "compare": ("compare:compare", "Compares models, methods or shots in pairs, on the same test images."),
    "check": ("datasets:check", "Reads a dataset and lists what is wrong with it."),
    "split": ("datasets:split", "Divides a dataset into train, val and test, and writes the division to a file."),
    "fit": ("fit:fit", "Fits a classifier to your own cells and writes it as a bundle."),
    "evaluate": ("evaluate:evaluate", "Measures a bundle on labelled images that it was not trained on."),
    "predict": ("predict:predict", "Says of new images what they show, and which a person should look at."),
    "embed": ("embed:embed", "Writes the features of a folder of images to a Parquet file."),
    "labels": ("labels:labels", "Says how many more labelled cells a given balanced accuracy would take."),
    "export": ("export:export", "Writes a bundle as ONNX, for timm or for PEFT, and checks it before it is kept."),
    "serve": ("serve:serve", "Answers with predictions over HTTP, on this machine unless a token is asked for."),
    "data": ("data:app", "Fetches datasets, or says where they are."),
    "weights": ("weights:app", "Lists, fetches and verifies checkpoints."),
    "doctor": ("doctor:doctor", "Says what this machine has, and what is missing on it."),
    "ls": ("catalogue:ls", "Lists models, datasets, grids, methods or engines."),
}
for _name, (_function, _help) in _COMMANDS.items():
    app.command(f"cytolora.cli.{_function}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 done but problems were found, 2 the user must change something."""
    print_any_text()
    console = make_console(stderr=True)
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CytoloraError as error:
        console.print(f"cytolora: {_one_line(error)}")
        sys.exit(_USER_MUST_CHANGE)
    except CycloptsError as error:
        console.print(f"cytolora: {_one_line(error)} See `cytolora --help`.")
        sys.exit(_USER_MUST_CHANGE)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "cytolora":
            raise
        console.print(
            f"cytolora: This command needs {error.name}, which is not installed here. Install all that cytolora needs: "
            f"{how_to_install()}. Without torch, `predict` and `serve` work with ONNX exports."
        )
        sys.exit(_USER_MUST_CHANGE)
    except BrokenPipeError:
        sys.exit(0)  # the reader of our output, `head` say, has had enough
    except KeyboardInterrupt:
        console.print("cytolora: stopped. What was finished is kept; the same command goes on from there.")
        sys.exit(_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
