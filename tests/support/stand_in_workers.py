"""Workers of the engine ``processes`` without torch, which do what the name of a unit's dataset says."""

from stand_in_runs import units_of

from cytolora.core.progress import SILENT
from cytolora.experiments.engines.pool import Pool
from cytolora.experiments.engines.processes import ProcessCrew
from cytolora.experiments.engines.units import Units

STAND_IN = """
import os, signal, sys, time
sys.path[:] = {path!r}
sys.modules['cytolora.experiments.engines.worker'] = own = type(sys)('worker')
sys.modules['cytolora.experiments.engines.units'] = light = type(sys)('units')  # takes most of a second to import
class Unit:
    def __setstate__(self, fields): self.key = fields[0]
light.Unit, light.Units = Unit, None
class Worker:
    def __init__(self, setup): self.setup = setup
    def start(self): print('a library prints', flush=True)
    def work(self, unit):
        key = unit.key[0]
        if key == 'die' and not os.path.exists(self.setup):
            open(self.setup, 'w').close()
            os.kill(os.getpid(), signal.SIGKILL)
        if key == 'always die': sys.exit('no memory is left')
        if key == 'refuse':
            from cytolora.errors import DataError
            raise DataError('cell.png is no image.')
        if key == 'refuse with a code':
            from cytolora.core.findings import RefusedDataError
            raise RefusedDataError('D509', 'Some images have a subset.')
        if key == 'full disk': raise OSError(28, 'No space left on device', 'runs/metrics.json')
        if key == 'read-only disk': raise OSError(30, 'Read-only file system', 'runs/metrics.json')
        if key == 'unreachable': raise OSError(107, 'Transport endpoint is not connected')
        if key == 'broken pipe': raise BrokenPipeError(32, 'Broken pipe')
        if key == 'no package': raise ModuleNotFoundError("No module named 'peft'", name='peft')
        if key == 'odd error':
            class OddError(OSError):
                def __init__(self, one, *, two): super().__init__(one)
            raise OddError('of a kind of its own', two=2)
        if key == 'fail': raise ZeroDivisionError('of a programmer')
        if key == 'log':
            import logging
            logging.getLogger('cytolora.core.cache').warning('%s is damaged: it is made anew.', 'a.png')
            logging.getLogger('cytolora').info('nobody asked for this')
            logging.getLogger('somelibrary').error('a library says so')
        if key == 'warn':
            import warnings
            class OwnWarning(FutureWarning): pass
            warnings.simplefilter('always')
            for _ in range(3): warnings.warn_explicit('will change', OwnWarning, '/lib/site-packages/other/a.py', 7)
            warnings.warn_explicit('also', UserWarning, '/lib/site-packages/other/a.py', 8)
        if key == 'close and stay':
            os.closerange(3, 20)
            time.sleep(60)
        if key == 'wait':
            open(self.setup, 'w').close()
            time.sleep(60)
        while key == 'until asked':
            from cytolora.core.stopping import stop_if_asked
            stop_if_asked()
            time.sleep(0.02)
        while key == 'until told' and not os.path.exists(self.setup): time.sleep(0.02)
        return 7
own.Worker = Worker
from cytolora.experiments.engines.process_worker import main
main()
"""
"""A worker without torch, which does what the dataset's name says."""


def run_units(crew: ProcessCrew, *datasets: str, workers: int = 1) -> Units:
    """Has workers do a unit a dataset; returns what became of these."""
    units = units_of(*datasets)
    Pool(crew=crew, units=units, progress=SILENT).run(workers)
    assert not units.waiting
    return units
