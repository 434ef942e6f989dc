#!/usr/bin/env python3
"""How soon jobs run, how fast what they print is kept and seen, and what that does to others: a server with an embedded
worker of its own, each figure with what it is compared with, measured in the same run.

usage: bench/output.py [--seconds N] [--megabytes N] [--watchers N] [--workers N] [--rounds N] [--json FILE]
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.request

from stage import CLI, Stage


class Working(Stage):
    """A stage whose server runs jobs itself, as the user that it runs as."""

    variables = {"AIRUNNER_WORKER_EMBEDDED": "true", "AIRUNNER_WORKER_SAME_USER": "true", "AIRUNNER_WORKER_CONCURRENCY": "8"}

    def cli(self, *args, **options):
        return subprocess.run([CLI, *args], env=self.env, check=True, capture_output=True, text=True, **options)

    def join(self, workers):
        """Workers of their own, each a process; returns them once all are there."""
        processes = []
        for n in range(workers):
            name, place = f"w{n}", self.root / f"w{n}"
            self.cli("principal", "create", name, "--type", "worker")
            secret = self.cli("enrollment", "create", name, "--address", self.public_address).stdout.strip()
            subprocess.run([CLI, "enroll", "--output-dir", place], env={**self.env, "AIRUNNER_ENROLL_TOKEN": secret}, check=True, capture_output=True)
            args = ["worker", "--identity", place, "--state-dir", self.root / f"state-{n}", "--same-user"]
            processes.append(subprocess.Popen([CLI, *args], env=self.env, stdout=self.log, stderr=self.log))
        while self.metric("airunner_live_connections") < workers:
            if any(process.poll() is not None for process in processes):
                raise SystemExit("a worker ended")
            time.sleep(0.1)
        # In the first minute of a line the server looks for claims that an earlier one lost.
        time.sleep(65)
        return processes

    def job(self, id):
        return json.loads(self.cli("job", "show", id, "--output", "json").stdout)

    def run(self, *command):
        """Runs a job to its end; how long its process ran and what it printed was kept, in seconds."""
        id = self.cli("job", "submit", "--", *command).stdout.strip()
        # To ask for more than its state would be work beside it.
        while self.cli("job", "status", id).stdout.strip() in ("scheduled", "running"):
            time.sleep(0.05)
        job = self.job(id)
        if job["state"] != "completed":
            raise SystemExit(f"{command}: {job}")
        # The job's own times are told to the second, its events' to the millisecond.
        events = job["history"]["events"]
        return id, when(events[-1]["at"]) - when(events[0]["at"])

    def intents(self):
        """How often the store was asked for what, since the start."""
        found = re.findall(r'^airunner_store_seconds_count\{[^}]*intent="(\w+)"[^}]*\} (\d+)', self.metrics(), re.M)
        return {intent: int(count) for intent, count in found}

    def metric(self, name):
        return int(re.search(rf"^{name} (\d+)", self.metrics(), re.M)[1])

    def metrics(self):
        return urllib.request.urlopen(f"http://{self.metrics_address}/metrics").read().decode()


def when(text):
    from datetime import datetime
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def dd(directory, megabytes):
    """Bytes a second that the disk takes, synced once at the end."""
    path = pathlib.Path(directory) / "dd"
    began = time.monotonic()
    subprocess.run(["dd", "if=/dev/zero", f"of={path}", "bs=256k", f"count={megabytes * 4}", "conv=fdatasync"], check=True, capture_output=True)
    took = time.monotonic() - began
    path.unlink()
    return megabytes * 1e6 * 1.048576 / took


def kept(stage, megabytes):
    """Bytes a second that a job prints, all of which are on the disk before it counts as over."""
    _, took = stage.run("/usr/bin/head", "-c", str(megabytes << 20), "/dev/zero")
    return (megabytes << 20) / took


def tail(stage, megabytes):
    """Bytes a second that one watcher gets: of a job that prints as fast as it can, and of one that is over."""
    id = stage.cli("job", "submit", "--", "/usr/bin/head", "-c", str(megabytes << 20), "/dev/zero").stdout.strip()
    rates = []
    for _ in ("live", "over"):
        began = time.monotonic()
        seen = subprocess.run([CLI, "job", "logs", "--follow", id], env=stage.env, check=True, stdout=subprocess.PIPE).stdout
        if len(seen) != megabytes << 20:
            raise SystemExit(f"the watcher got {len(seen)} bytes")
        rates.append(len(seen) / (time.monotonic() - began))
    return rates


def revoke_beside(stage, seconds):
    """p50 of revoking, one caller, while a job prints as fast as it can."""
    id = stage.cli("job", "submit", "--", "/usr/bin/head", "-c", str(200 << 30), "/dev/zero").stdout.strip()
    try:
        return stage.bench("revoke", callers=1, connections=1, seconds=seconds)
    finally:
        stage.cli("job", "stop", id, "--grace", "0s")


def idle(stage, seconds):
    """What the store is asked a second, with a worker that waits."""
    before = stage.intents()
    time.sleep(seconds)
    after = stage.intents()
    return {intent: (count - before.get(intent, 0)) / seconds for intent, count in after.items() if count > before.get(intent, 0)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--watchers", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=20, help="so many more that are idle, to see what they cost")
    parser.add_argument("--rounds", type=int, default=3, help="of several short runs the best counts: others use the machine too")
    parser.add_argument("--sandbox", action="store_true", help="also start jobs in sandboxes, which takes a worker that may")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    results = {}
    stage = Working()
    try:
        stage.start()
        rates = idle(stage, args.seconds)
        workers = stage.join(args.workers)
        crowd = idle(stage, args.seconds)
        for process in workers:
            process.terminate()
        for process in workers:
            process.wait(timeout=40)
        results["idle"], results["idle_crowd"] = rates, crowd
        told = (f"{name} {rates.get(name, 0):.1f} -> {crowd.get(name, 0):.1f}" for name in sorted(rates.keys() | crowd.keys()))
        print(f"what the store is asked a second with 1 idle worker -> with {args.workers + 1}: {', '.join(told)}", flush=True)

        def best(name, measure, better=min):
            results[name] = better((measure() for _ in range(args.rounds)), key=lambda report: report["p50_ms"])
            report = results[name]
            print(f"{name:44} p50 {report['p50_ms']:7.2f}  p99 {report['p99_ms']:7.2f} ms ({report['count']} in all)", flush=True)
            return report

        best("enqueue -> process runs", lambda: stage.bench("start", callers=1, connections=1, seconds=args.seconds))
        if args.sandbox:
            best("enqueue -> process runs, sandbox", lambda: stage.bench("start", "--sandbox", callers=1, connections=1, seconds=args.seconds))

        floor = max(dd(stage.root, args.megabytes) for _ in range(args.rounds))
        rate = max(kept(stage, args.megabytes) for _ in range(args.rounds))
        results["dd"], results["kept"] = floor, rate
        print(f"output kept durably {rate / 1e6:.0f} MB/s; dd conv=fdatasync {floor / 1e6:.0f} MB/s: {100 * rate / floor:.0f} % of it", flush=True)

        rounds = [tail(stage, args.megabytes) for _ in range(args.rounds)]
        live, over = (max(some) for some in zip(*rounds))
        results["tail"] = {"live": live, "over": over}
        print(f"one watcher: {live / 1e6:.0f} MB/s while it is printed ({100 * live / rate:.0f} % of what is kept), {over / 1e6:.0f} MB/s of what is there", flush=True)

        alone = best("1 watcher of 50 KB/s", lambda: stage.bench("watch", callers=1, connections=1, seconds=args.seconds))
        many = best(f"{args.watchers} watchers of 50 KB/s", lambda: stage.bench("watch", callers=args.watchers, connections=16, seconds=args.seconds))
        print(f"the job's speed with {args.watchers} watchers: {100 * alone['job_seconds'] / many['job_seconds']:.1f} % of that with one", flush=True)

        quiet = best("revoke, 1 caller", lambda: stage.bench("revoke", callers=1, connections=1, seconds=args.seconds))
        busy = best("revoke, 1 caller, beside full output", lambda: revoke_beside(stage, args.seconds))
        print(f"revoking beside full output takes {busy['p50_ms'] / quiet['p50_ms']:.1f} times as long (p99 {busy['p99_ms'] / quiet['p99_ms']:.1f} times)", flush=True)
    finally:
        stage.stop()
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
