"""Times Dask's threaded scheduler on tasks that do nothing: a fan-out of N, and a chain of N.

Prints one JSON object: versions, and for each shape the seconds of every run and the best microseconds a task.

    dask_fanout.py [--tasks 10000] [--runs 5] [--workers CORES]
"""

import argparse
import json
import os
import platform
import sys
import time

try:
    import dask
    import dask.threaded
except ImportError as error:
    sys.exit(f"error: {error}; `cargo xtask bench` makes a Python that has it, .venv-test/bin/python")


def nothing(*_):
    return None


def fan_out(tasks):
    """One task without inputs, `tasks` that read it, one that reads them all."""
    graph = {"begin": (nothing,)}
    graph.update({("leaf", i): (nothing, "begin") for i in range(tasks - 2)})
    graph["end"] = (nothing, [("leaf", i) for i in range(tasks - 2)])
    return graph, "end"


def chain(tasks):
    """`tasks` one after another."""
    graph = {("link", 0): (nothing,)}
    graph.update({("link", i): (nothing, ("link", i - 1)) for i in range(1, tasks)})
    return graph, ("link", tasks - 1)


def measure(shape, tasks, runs, workers):
    """As a user meets it: the scheduler alone, without the optimisations that would fuse the chain into one task."""
    graph, end = shape(tasks)
    assert len(graph) == tasks
    dask.threaded.get(graph, end, num_workers=workers)
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        dask.threaded.get(graph, end, num_workers=workers)
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds, "best_us_per_task": min(seconds) / tasks * 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.tasks < 3 or options.runs < 1 or options.workers < 1:
        parser.error("at least 3 tasks, 1 run and 1 worker")
    result = {
        "peer": "dask.threaded",
        "dask": dask.__version__,
        "python": platform.python_version(),
        "tasks": options.tasks,
        "workers": options.workers,
    }
    for name, shape in (("fan_out", fan_out), ("chain", chain)):
        result[name] = measure(shape, options.tasks, options.runs, options.workers)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
