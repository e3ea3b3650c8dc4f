"""Times PyTorch's DistributedDataParallel over Gloo on the models of the bench `ddp`; to be started by torchrun.

Rank 0 prints one JSON object: the version, and for each model and way the steps per second, the loss before the first
step and the loss after the last. The parameters and batches are those of the bench: libtorch's generator draws them.

    torchrun --standalone --nproc-per-node 2 torch_ddp.py MEASUREMENTS

MEASUREMENTS is a JSON list of {"name", "model", "way", "warm_up", "steps"}; models are `mlp` and `transformer`, ways are
`default`, `views` (gradients as views into the buckets, and the fused optimizer) and `alone` (without an exchange).
"""

import json
import math
import sys
import time

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

BATCHES = 8


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(784, 1024), nn.Linear(1024, 1024), nn.Linear(1024, 10)

    def forward(self, x):
        return self.c(F.relu(self.b(F.relu(self.a(x)))))

    @staticmethod
    def batch():
        return torch.randn(64, 784), torch.randint(10, (64,))

    def optimizer(self, **how):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9, **how)


VOCABULARY, SEQUENCE, WIDTH, HEADS, LAYERS = 1000, 64, 256, 4, 4


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.before, self.qkv, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.between, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        batch = x.size(0)
        parts = self.qkv(self.before(x)).view(batch, SEQUENCE, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, SEQUENCE, WIDTH))
        return x + self.down(F.gelu(self.up(self.between(x))))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.place = nn.Embedding(SEQUENCE, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.last = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.places = torch.arange(SEQUENCE)

    def forward(self, tokens):
        x = self.token(tokens) + self.place(self.places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.last(x)).view(-1, VOCABULARY)

    @staticmethod
    def batch():
        tokens = torch.randint(VOCABULARY, (8, SEQUENCE + 1))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)

    def optimizer(self, **how):
        return torch.optim.AdamW(self.parameters(), lr=1e-3, **how)


def initialise(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                bound = 1 / math.sqrt(parameter.size(1))
                parameter.uniform_(-bound, bound)
            elif name.endswith("bias"):
                parameter.zero_()


def measure(model, way, warm_up, steps):
    model = {"mlp": Mlp, "transformer": Transformer}[model]()
    initialise(model)
    torch.manual_seed(100 + dist.get_rank())
    batches = [model.batch() for _ in range(BATCHES)]
    optimizer = model.optimizer(**({"fused": True} if way == "views" else {}))
    if way != "alone":
        model = DistributedDataParallel(model, gradient_as_bucket_view=way == "views")

    def step(number):
        x, y = batches[number % BATCHES]
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    first = step(0).item()
    for number in range(1, warm_up):
        step(number)
    dist.barrier()
    began = time.perf_counter()
    for number in range(warm_up, warm_up + steps):
        loss = step(number)
    dist.barrier()
    rate = steps / (time.perf_counter() - began)
    return {"rate": rate, "first": first, "last": loss.item()}


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    done = {}
    for asked in json.loads(sys.argv[1]):
        name = asked.pop("name")
        done[name] = measure(**asked)
    if dist.get_rank() == 0:
        print(json.dumps({"torch": torch.__version__, "measured": done}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
