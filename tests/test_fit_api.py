"""The names that `import cytolora` gives, and what importing it costs."""

import subprocess
import sys

PROGRAM = """
import sys
import cytolora
import cytolora.display.format as words
import cytolora.classifier.fit.fit
import cytolora.reporting.pages.build
from cytolora.errors import CytoloraError
assert words.percent(0.5) == "50.0"
for _ in range(2):
    try:
        cytolora.report("no runs here", "report")
    except CytoloraError as error:
        print(error)
print(sorted({"peft", "transformers", "open_clip"} & set(sys.modules)))
"""


def test_public_names_stay_functions_whatever_was_imported(tmp_path):
    """In a process of its own: which modules were imported decides."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("No finished runs in no runs here") == 2
    assert done.stdout.splitlines()[-1] == "[]"  # adapters bring PEFT and transformers, two seconds that no head needs
