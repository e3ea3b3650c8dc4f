"""A rank of the bench `restart` in PyTorch, to be started by torchrun.

Joins a group over Gloo, and adds a line to a file once its first all-reduce is done, {"at", "pid", "world", "what"};
then makes one every 5 ms until it is ended.

    torchrun --standalone --nproc-per-node 2 --max-restarts 5 torch_restart.py FILE
"""

import json
import os
import sys
import time

import torch
import torch.distributed as dist


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    total = torch.ones(1)
    dist.all_reduce(total)
    line = {"at": time.time(), "pid": os.getpid(), "world": dist.get_world_size(), "what": "begun"}
    with open(sys.argv[1], "a") as lines:
        lines.write(json.dumps(line) + "\n")
    while True:
        time.sleep(0.005)
        dist.all_reduce(total)
        total /= dist.get_world_size()


if __name__ == "__main__":
    main()
