"""Running one command and saying what it took."""

import dataclasses
import os
import pathlib
import statistics
import subprocess
import time


@dataclasses.dataclass
class Figure:
    """One run of one command, with all the processes that it waited for."""
    wall: float
    cpu: float
    peak: int  # bytes of the largest process
    stored: int = 0  # bytes that it left


def run(command, **options):
    """Runs a command that must succeed. Peak memory is that of its largest process."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as child:
        said = child.stdout.read()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - began
    if child.returncode != 0:
        raise RuntimeError(f"{command} ended with {child.returncode}: {said.decode(errors='replace')[-2000:]}")
    return Figure(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def medians(figures):
    """The median of each value over several runs."""
    return Figure(*(statistics.median(getattr(figure, field.name) for figure in figures)
                    for field in dataclasses.fields(Figure)))


def bytes_below(directory):
    """Bytes of all files below a directory; none when there is no such directory."""
    return sum(path.stat().st_size for path in pathlib.Path(directory).rglob("*") if path.is_file())


def settle():
    """What was written before must not be paid by what is measured next."""
    subprocess.run(["sync"], check=True)
