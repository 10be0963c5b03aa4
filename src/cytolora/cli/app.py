"""Command line: parses, calls one function, prints user errors as one line. Commands are loaded when called."""

import errno
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from cytolora.cli.command_line import command_line
from cytolora.cli.console import Console, make_console, print_any_text
from cytolora.cli.hub_retries import one_line_of_retries
from cytolora.cli.library_warnings import folded
from cytolora.cli.targets import check_numbers
from cytolora.core.cache_damage import one_notice
from cytolora.core.stopping import StoppedError
from cytolora.errors import CytoloraError, how_to_install

_USER_MUST_CHANGE = 2
_INTERRUPTED = 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Of a disk that is full or may only be read, wherever a command meets it."""

app = App(
    name="cytolora",
    help="Adapt vision foundation models to cytology: fit, calibrate, evaluate and compare classifiers of cells from "
    "few labels.",
    suppress_keyboard_interrupt=False,  # main prints what Ctrl-C leaves
    default_parameter=Parameter(validator=check_numbers),
    help_epilogue="Start with `cytolora demo --out demo`, which needs no data and no network.",
)
_COMMANDS = {
    "demo": ("experiments:demo", "Runs the whole pipeline on synthetic cells: no data, no network."),
    "run": ("experiments:run", "Runs what is missing of a grid of experiments; resumable."),
    "status": ("status:status", "Shows how far runs are: done, running, waiting, failed; workers and time left."),
    "plan": ("experiments:plan", "Lists the runs of a grid: stored, stale, to do."),
    "report": ("experiments:report", "Builds tables, figures and one page from stored runs."),
    "compare": ("compare:compare", "Compares models, methods or shots in pairs on the same test images."),
    "ensemble": (
        "ensemble:ensemble",
        "Averages stored predictions over models, methods or seeds, beside the members.",
    ),
    "merge": ("stores:merge", "Merges stores: the runs of several folders in one."),
    "share": ("stores:share", "Shares stored runs as one file, without images: a zip, or a table of predictions."),
    "track": ("track:track", "Mirrors stored runs to experiment trackers: TensorBoard, MLflow, W&B, trackio."),
    "check": ("datasets:check", "Checks a dataset: unreadable files, duplicates, group leakage between subsets."),
    "leakage": (
        "leakage:leakage",
        "Measures group leakage and shortcuts: inflation by an image split, readable slides or scanners.",
    ),
    "split": ("datasets:split", "Splits a dataset into train, val and test by group, and writes the split to a file."),
    "convert": ("convert:convert", "Converts labels for other programs: COCO, CVAT, Label Studio, QuPath and others."),
    "label": ("label:label", "Labels cells in the browser, with a test share that stays unbiased."),
    "fit": ("fit:fit", "Fits a classifier to your own cells and writes it as a bundle."),
    "evaluate": ("evaluate:evaluate", "Evaluates a classifier on labelled images that it was not trained on."),
    "predict": ("predict:predict", "Predicts classes of new images and flags uncertain and out-of-distribution ones."),
    "embed": ("embed:embed", "Writes the features of a folder of images to a Parquet, AnnData or NumPy file."),
    "learning-curve": (
        "learning_curve:learning_curve",
        "Measures a learning curve and forecasts how many labels reach a target balanced accuracy.",
    ),
    "export": ("export:export", "Exports a classifier to ONNX, timm or PEFT, and verifies the export."),
    "publish": ("publish:publish", "Publishes a classifier: a folder, or a repository on the Hugging Face hub."),
    "serve": ("serve:serve", "Serves a classifier over HTTP (localhost unless a token is set)."),
    "cache": ("cache:app", "Lists and clears what is kept to be read again: pixels, features, adapters, drawings."),
    "data": ("data:app", "Downloads datasets and lists their sources."),
    "weights": ("weights:app", "Lists, downloads and verifies checkpoints."),
    "doctor": ("doctor:doctor", "Diagnoses the installation: Python, devices, checkpoints, hub."),
    "ls": ("catalogue:ls", "Lists models, datasets, grids, presets, methods, engines, formats or trackers."),
}
for _name, (_function, _help) in _COMMANDS.items():
    app.command(f"cytolora.cli.{_function}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 done but problems were found, 2 the user must change something."""
    print_any_text()
    console = make_console(stderr=True)
    with folded() as of_libraries, one_line_of_retries():
        code = _run(arguments, console)
    if line := of_libraries.line():
        console.print(f"cytolora: {line}")
    sys.exit(code)


def _help_in_full(arguments: Sequence[str]) -> None:
    """Makes the help of a command its docstring, with examples; in the list of all, which loads none, it is a line."""
    name = next(iter(arguments), "")
    if name in _COMMANDS and not {"--help", "-h"}.isdisjoint(arguments) and app[name].default_command is not None:
        app[name].help = None


def _run(arguments: Sequence[str] | None, console: Console) -> int:
    """Runs one command and returns its exit code; errors that a user can mend are one line."""
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        _help_in_full(arguments)
        with one_notice(), command_line(arguments):
            code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CytoloraError as error:
        console.print(f"cytolora: {_one_line(error)}")
        return _USER_MUST_CHANGE
    except CycloptsError as error:
        console.print(f"cytolora: {_one_line(error)} See `cytolora --help`.")
        return _USER_MUST_CHANGE
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "cytolora":
            raise
        console.print(
            f"cytolora: This command needs {error.name}, which is not installed here. Install all that cytolora needs: "
            f"{how_to_install()}. Without torch, `predict` and `serve` work with ONNX exports."
        )
        return _USER_MUST_CHANGE
    except BrokenPipeError:
        return 0  # the reader of our output, such as `head`, has closed it
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        where = error.filename or "to disk"
        advice = (
            "Name a folder on a disk that may be written, or make this one writable."
            if error.errno == errno.EROFS
            else "Make room, and run the same command again."
        )
        console.print(f"cytolora: Cannot write {where}: {error.strerror}. {advice}")
        return _USER_MUST_CHANGE
    except StoppedError as stopped:
        console.print(
            "cytolora: stopped by a signal. Finished work and checkpoints are kept; the same command resumes."
        )
        return stopped.exit_code
    except KeyboardInterrupt:
        console.print("cytolora: stopped. Finished work is kept; the same command resumes.")
        return _INTERRUPTED
    return code if isinstance(code, int) else 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
