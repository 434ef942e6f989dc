"""A server with a home of its own, and what the load tool says of it."""

import json
import os
import pathlib
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

HOUSE = pathlib.Path(__file__).resolve().parent.parent
CLI = HOUSE / "bin" / "airunner-cli"
SERVER = HOUSE / "bin" / "airunner-server"


class Stage:
    """A server with a home of its own, and what the load tool says of it."""

    # How the environment is made, and what its server and the load tool find besides.
    place = ("--environment=local",)
    variables = {}

    def __init__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="airunner-bench-"))
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "AIRUNNER_HOME": str(self.root / "home"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "AIRUNNER_WORKER_EMBEDDED": "false",
            **self.variables,
        }
        subprocess.run(
            [CLI, "bootstrap", *self.place, *(f"--{n}-addr=127.0.0.1:0" for n in ("api", "public", "plain", "metrics"))],
            env=self.env, check=True, capture_output=True,
        )
        self.log = open(self.root / "server.log", "ab")
        self.server = None

    def start(self):
        """Starts the server; returns the seconds until the first handshake."""
        reader, writer = os.pipe()
        began = time.monotonic()
        self.server = subprocess.Popen(
            [SERVER, "--config", self.root / "home" / "server.toml", "--ready-fd", str(writer)], env=self.env, pass_fds=(writer,), stdout=self.log, stderr=self.log
        )
        os.close(writer)
        if not select.select([reader], [], [], 20)[0]:
            raise SystemExit("the server does not start")
        addresses = json.loads(os.read(reader, 4096))
        os.close(reader)
        host, port = addresses["api"].rsplit(":", 1)
        home = self.root / "home"
        context = ssl.create_default_context(cafile=home / "ca.pem")
        context.load_cert_chain(home / "admin" / "cert.pem", home / "admin" / "key.pem")
        with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw, server_hostname="localhost"):
            took = time.monotonic() - began
        self.address, self.metrics_address, self.public_address = addresses["api"], addresses["metrics"], addresses["public"]
        self.env["AIRUNNER_SERVER"] = f"https://{self.address}"
        return took

    def memory(self):
        status = pathlib.Path(f"/proc/{self.server.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.server.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def bench(self, scenario, *flags, **options):
        args = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        before = self.cpu()
        done = subprocess.run(
            [CLI, "bench", scenario, *flags, *args, "--output", "json"], env=self.env, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise SystemExit(f"bench {scenario}: {done.stderr}")
        report = json.loads(done.stdout)
        report["server_cpu_micros"] = (self.cpu() - before) * 1e6 / max(1, report["count"])
        if report["errors"]:
            raise SystemExit(f"bench {scenario}: {report['errors']} errors, the first: {report.get('first_error')}")
        return report

    def stop(self):
        if self.server and self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(timeout=40)
        self.log.close()
        shutil.rmtree(self.root, ignore_errors=True)


def say(name, report):
    print(
        f"{name:38} {report['per_second']:9.0f}/s  p50 {report['p50_ms']:7.2f}  p90 {report['p90_ms']:7.2f}"
        f"  p99 {report['p99_ms']:7.2f} ms  CPU {report['cpu_micros']:6.0f} + {report.get('server_cpu_micros', 0):6.0f} us",
        flush=True,
    )
