"""Commands run within the tests' process, which spares each the seconds of loading torch."""

import io
from contextlib import redirect_stdout

import pytest

from cytolora.cli.app import main
from cytolora.models.backbones.registry import BACKBONES


def output_of(*arguments: object) -> str:
    """Runs a command that ends with 0; returns what it printed. What it registers is gone afterwards."""
    own, printed = dict(BACKBONES._entries), io.StringIO()
    try:
        with redirect_stdout(printed), pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
    finally:
        BACKBONES._entries = own
    assert ended.value.code == 0, arguments
    return printed.getvalue()
