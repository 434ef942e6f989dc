#!/usr/bin/env python3
"""What deleting jobs that were kept for long enough does to those who have certificates issued meanwhile: the same load
before, and while a hundred thousand jobs are deleted.

usage: bench/retention.py [--jobs N] [--seconds N]
"""

import argparse
import re
import sys
import time
import urllib.request

from stage import Stage, say


class Keeping(Stage):
    """A stage that keeps jobs for the shortest time there is."""

    variables = {"AIRUNNER_JOBS_RETENTION": "1m"}

    def count(self, name):
        text = urllib.request.urlopen(f"http://{self.metrics_address}/metrics").read().decode()
        return int(re.search(rf"^{name} (\d+)", text, re.M)[1])

    def pruned(self):
        return self.count("airunner_jobs_pruned_total")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=10)
    args = parser.parse_args()
    stage = Keeping()
    try:
        stage.start()
        made = 0
        while made < args.jobs:
            made += stage.bench("jobs", callers=4, connections=4, batch=64, seconds=5)["count"]
        print(f"{made} jobs have ended, of which {stage.pruned()} are deleted already", flush=True)
        loads = {"issue, 1 caller": (1, 1), "issue, 64 callers": (64, 8)}

        def measure(when):
            reports = {}
            for name, (callers, connections) in loads.items():
                reports[name] = stage.bench("issue", callers=callers, connections=connections, seconds=args.seconds)
                say(f"{name}, {when}", reports[name])
            return reports

        before = measure("before")
        if stage.pruned():
            raise SystemExit("making the jobs took so long that the first of them are deleted already: ask for fewer")
        while not stage.pruned():
            time.sleep(0.5)
        from_, began = stage.pruned(), time.monotonic()
        during = measure("while jobs are deleted")
        pruned, took = stage.pruned() - from_, time.monotonic() - began
        print(f"{pruned} jobs were deleted meanwhile, {pruned / took:.0f} a second", flush=True)
        if stage.pruned() >= made:
            raise SystemExit("all were deleted before the end of the measurement: ask for more")
        for name in loads:
            quiet, busy = before[name], during[name]
            print(
                f"{name}: p50 {busy['p50_ms'] / quiet['p50_ms']:.2f}, p99 {busy['p99_ms'] / quiet['p99_ms']:.2f} times as long"
            )
        from_, began = stage.pruned(), time.monotonic()
        time.sleep(5)
        print(f"with nothing else to do {(stage.pruned() - from_) / (time.monotonic() - began):.0f} jobs are deleted a second")
    finally:
        stage.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
