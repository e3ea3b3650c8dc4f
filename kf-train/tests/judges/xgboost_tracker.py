"""XGBoost's tracker for so many workers: prints its port, and ends when they have ended."""

import sys

from xgboost.tracker import RabitTracker

tracker = RabitTracker(n_workers=int(sys.argv[1]), host_ip="127.0.0.1", sortby="task", timeout=60)
tracker.start()
print(tracker.worker_args()["dmlc_tracker_port"], flush=True)
tracker.wait_for(timeout=60)
