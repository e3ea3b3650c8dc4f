"""An XGBoost worker of a job: trains on its share, and prints its number, how many there are, and its model's digest."""

import hashlib
import os

import numpy
import xgboost

args = {name: value for name, value in os.environ.items() if name.startswith("DMLC_")}
args["DMLC_TRACKER_PORT"] = int(args["DMLC_TRACKER_PORT"])
with xgboost.collective.CommunicatorContext(**args, dmlc_timeout=60):
    task, tasks = int(os.environ["DMLC_TASK_ID"]), int(os.environ["DMLC_NUM_WORKER"])
    x = numpy.random.default_rng(7).normal(size=(400, 5))
    share = xgboost.DMatrix(x[task::tasks], (x @ numpy.arange(5))[task::tasks])
    model = xgboost.train({"max_depth": 3, "tree_method": "hist", "nthread": 1}, share, num_boost_round=5)
    rank, world = xgboost.collective.get_rank(), xgboost.collective.get_world_size()
    print("RESULT", rank, world, hashlib.sha256(model.save_raw("json")).hexdigest(), flush=True)
