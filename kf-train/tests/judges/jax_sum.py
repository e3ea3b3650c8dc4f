"""A JAX process of a job: prints its number, how many there are, and the sum of what all of them have."""

import os

import jax

jax.distributed.initialize(
    num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
    process_id=int(os.environ["JAX_PROCESS_ID"]),
    initialization_timeout=60,
)

import numpy as np
from jax.experimental.multihost_utils import process_allgather

mine = np.array([10.0 ** jax.process_index()], dtype=np.float32)
print("RESULT", jax.process_index(), jax.process_count(), jax.device_count(), process_allgather(mine).sum(), flush=True)
