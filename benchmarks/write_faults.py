"""Full and broken disks, short writes, crashes and power cuts at drawn steps of everything that is written to disk.

Each fault hits one call (create, write, flush, rename, make a folder) of one writer: functions that write, and commands
from their command line. Afterwards the previous content or the new one must be there whole, a command's error must be
one line, and a second try must write the new content and leave nothing else.

    python benchmarks/write_faults.py --injections 500
    python benchmarks/write_faults.py --quick
"""

import argparse
import importlib.util
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import torch
from disk_writers import Bench, Injected, Writer, library_writers
from faulty_files import choose

from cytolora.core.folders import finish_together

_SHARE_OF_COMMANDS = 0.2
"""Of all injections: a command takes a second and more, a function milliseconds."""


def command_writers(root: Path) -> list[Writer]:
    """Commands that write a file or folder, by the table of the other benchmark."""
    path = Path(__file__).with_name("concurrent_runs.py")
    spec = importlib.util.spec_from_file_location("concurrent_runs", path)
    assert spec is not None
    assert spec.loader is not None
    concurrent: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = concurrent
    spec.loader.exec_module(concurrent)
    cells, made = concurrent.prepared(root)
    return [
        Writer(
            name=f"cytolora {target.name}",
            old=lambda to, target=target: target.works(to)[0](),
            new=lambda to, target=target: target.works(to)[1](),
            read=lambda to, target=target: state(to, target),
            is_command=True,
        )
        for target in concurrent.targets(cells, made)
    ]


def state(folder: Path, target: Any) -> Any:
    """What a command's target holds; files that a killed one had not moved to it yet count as moved."""
    finish_together(folder / target.file)
    return target.state(folder)


def inject(bench: Bench, number: int, moment: random.Random) -> list[Injected]:
    """Injects some faults at drawn steps, and prints the line of a writer."""
    found = [bench.inject(*choose(moment, len(bench.steps))) for _ in range(number)]
    broken = [one for one in found if one.problems]
    faults = ", ".join(f"{count} {fault}" for fault, count in sorted(Counter(one.fault for one in found).items()))
    kept = "broken" if broken else "kept"
    print(f"{bench.writer.name:<26} {kept:<7} {len(found):>4} at {len(bench.steps)} steps: {faults}", flush=True)
    for one in broken:
        print(f"    {one}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--injections", type=int, default=500, help="into all writers together")
    parser.add_argument("--quick", action="store_true", help="60 injections")
    parser.add_argument("--no-commands", action="store_true", help="functions only")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    number, moment = 60 if arguments.quick else arguments.injections, random.Random(arguments.seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        commands = [] if arguments.no_commands else command_writers(root / "commands")
        from small_bundle import write_small_bundle

        functions = library_writers(write_small_bundle(root / "model"), root)
        found = list[Injected]()
        of_commands = _SHARE_OF_COMMANDS if commands else 0.0
        for writers, share in ((functions, 1 - of_commands), (commands, of_commands)):
            for index, writer in enumerate(writers):
                each = -(-round(number * share) // len(writers))
                found += inject(Bench.of(writer, root / f"{writer.name} {index}"), each, moment)
    broken = sum(bool(one.problems) for one in found)
    print(f"{len(found)} faults, {broken} broken")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
