"""Times PyTorch's DataLoader over rows in memory, shuffled.

Prints one JSON object: versions, and for each number of workers the rows per second of every epoch.

    torch_loader.py [--rows 200000] [--width 256] [--batch 256] [--runs 5] [--workers 0 2]
"""

import argparse
import json
import platform
import sys
import time

try:
    import torch
    from torch.utils.data import DataLoader, TensorDataset
except ImportError as error:
    sys.exit(f"error: {error}; name a Python that has PyTorch by KF_TORCH_PYTHON")


def measure(data, batch, workers, runs):
    """As a user meets it; the first epoch is not counted, and the workers stay from one epoch to the next."""
    loader = DataLoader(
        data, batch_size=batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    rates = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        rows = labels = 0
        for x, y in loader:
            rows += len(x)
            labels += int(y.sum())
        rates.append(rows / (time.perf_counter() - began))
        assert rows == len(data) and labels == rows * (rows - 1) // 2
    return {"rows_per_second": rates[1:]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2])
    options = parser.parse_args()
    if min(options.rows, options.width, options.batch, options.runs) < 1 or min(options.workers, default=0) < 0:
        parser.error("at least 1 row, column, row in a batch and run, and no workers less than 0")
    data = TensorDataset(torch.rand(options.rows, options.width), torch.arange(options.rows))
    result = {"peer": "torch.utils.data.DataLoader", "torch": torch.__version__, "python": platform.python_version()}
    for workers in options.workers:
        result[f"workers_{workers}"] = measure(data, options.batch, workers, options.runs)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
