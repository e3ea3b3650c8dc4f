"""An XGBoost worker of a job: trains on its share, and prints its number, how many there are, and its model's digest.

Rank 0 has the tracker, too.
"""

import hashlib
import os

import numpy
import xgboost
from xgboost.tracker import RabitTracker

args = {name: value for name, value in os.environ.items() if name.startswith("DMLC_")}
args["DMLC_TRACKER_PORT"] = int(args["DMLC_TRACKER_PORT"])
task, tasks = int(os.environ["DMLC_TASK_ID"]), int(os.environ["DMLC_NUM_WORKER"])
if task == 0:
    host, port = args["DMLC_TRACKER_URI"], args["DMLC_TRACKER_PORT"]
    tracker = RabitTracker(n_workers=tasks, host_ip=host, port=port, sortby="task", timeout=60)
    tracker.start()
# The others may come before the tracker is there.
with xgboost.collective.CommunicatorContext(**args, dmlc_timeout=60, dmlc_retry=30):
    x = numpy.random.default_rng(7).normal(size=(400, 5))
    share = xgboost.DMatrix(x[task::tasks], (x @ numpy.arange(5))[task::tasks])
    model = xgboost.train({"max_depth": 3, "tree_method": "hist", "nthread": 1}, share, num_boost_round=5)
    rank, world = xgboost.collective.get_rank(), xgboost.collective.get_world_size()
    print("RESULT", rank, world, hashlib.sha256(model.save_raw("json")).hexdigest(), flush=True)
if task == 0:
    tracker.wait_for(timeout=60)
