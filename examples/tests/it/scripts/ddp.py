"""Trains over PyTorch's DistributedDataParallel, written for torchrun; fails once where it is told to."""

import os
import sys

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel


@record
def main():
    dist.init_process_group("gloo")
    rank, restarts = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    torch.manual_seed(rank)
    layers = [torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1)]
    model = DistributedDataParallel(torch.nn.Sequential(*layers))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step in range(40):
        x = torch.randn(32, 8, generator=torch.Generator().manual_seed(1000 * step + rank))
        loss = torch.nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if sys.argv[1] == "fail" and (step, rank, restarts) == (20, 1, 0):
            raise ValueError("as it was told")
    own = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    everyones = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(everyones, own)
    same = all(torch.equal(each, own) for each in everyones)
    fell = losses[-1] < losses[0] / 2
    # In one call: the ranks share their standard output.
    sys.stdout.write(f"rank {rank} of {dist.get_world_size()}: same={same} fell={fell} restarts={restarts}\n")
    dist.destroy_process_group()


main()
