"""The peer of bench `python`: kfp.local, each step a subprocess of this interpreter. Prints one JSON object."""

import contextlib
import io
import json
import sys
import tempfile
import time
import warnings

warnings.simplefilter("ignore")

import kfp
from kfp import dsl, local


@dsl.component
def nothing():
    pass


@dsl.component
def sleep(seconds: float):
    import time

    time.sleep(seconds)


@dsl.pipeline
def steps():
    last = None
    for _ in range(10):
        task = nothing()
        if last is not None:
            task.after(last)
        last = task


@dsl.pipeline
def sleeps():
    with dsl.ParallelFor([2.0] * 8) as seconds:
        sleep(seconds=seconds)


def timed(pipeline):
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        pipeline()
    return time.perf_counter() - began


with tempfile.TemporaryDirectory() as root:
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=root)
    print(
        json.dumps(
            {
                "steps": [timed(steps) / 10 for _ in range(5)],
                "sleeps": [timed(sleeps)],
                "kfp": kfp.__version__,
                "python": sys.version.split()[0],
            }
        )
    )
