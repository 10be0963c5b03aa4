"""Files that file managers, operating systems and notebooks leave in any folder."""

import pytest

from cytolora.core.litter import is_litter


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "figures/.DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "._index.html",
        "__MACOSX/index.html",
        ".ipynb_checkpoints",
        ".ipynb_checkpoints/settings-checkpoint.csv",
    ],
)
def test_what_file_managers_and_notebooks_leave_is_litter(name: str):
    assert is_litter(name)


@pytest.mark.parametrize("name", ["thesis.docx", "figures/Thumbs.db.png", ".hidden", "DS_Store", "notes/desktop.txt"])
def test_what_somebody_wrote_is_no_litter(name: str):
    assert not is_litter(name)
