#!/usr/bin/env python3
"""The main job of airunner, end to end, through the real binaries.

Bootstraps an environment in a temporary directory on free ports, starts a server, enrols a worker with a one-time
secret, runs a real job out of a real git repository, follows it live with two watchers, rotates the worker's
certificate while the job runs, suspends and revokes the worker in the middle, and lets a second worker finish.

Each step is a line of the summary with its time. Exits non-zero if one did not happen. Leaves no process and no file
behind, also when it is interrupted. Needs Python 3, git and the two binaries; nothing else.

With --aws the environment is one of AWS: tables in DynamoDB, output in S3, the root's key in KMS, what servers start from
in SSM; all of it in an emulator that is started for the demo and gone after it.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

DEADLINE = 80.0  # seconds for the whole of it, after the build
TICKS = 40  # lines that the job's test script prints


class Failed(Exception):
    """A step that did not happen."""


class Demo:
    """The stage: a directory, an environment of variables, and every process that was started."""

    def __init__(self, binaries, keep, emulator=None):
        self.emulator = emulator and pathlib.Path(emulator).resolve()
        self.bin = pathlib.Path(binaries).resolve()
        # The job may run as another user, who must be able to reach the repository.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="airunner-demo-"))
        self.root.chmod(0o755)
        self.keep = keep
        self.processes = []
        self.steps = []
        self.began = time.monotonic()
        private = self.root / "private"
        private.mkdir(mode=0o700)
        self.private = private
        self.env = {
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
            "HOME": str(private),
            "AIRUNNER_HOME": str(private / "home"),
            "XDG_CONFIG_HOME": str(private / "config"),
            "XDG_DATA_HOME": str(private / "data"),
            "NO_COLOR": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "demo",
            "GIT_AUTHOR_EMAIL": "demo@localhost",
            "GIT_COMMITTER_NAME": "demo",
            "GIT_COMMITTER_EMAIL": "demo@localhost",
        }

    # -- processes ---------------------------------------------------------------------------------------------

    def cli(self, *args, env=None, check=True, stdin=None):
        """Runs the CLI to its end and returns (code, stdout, stderr)."""
        done = subprocess.run(
            [self.bin / "airunner-cli", *args],
            env={**self.env, **(env or {})},
            cwd="/",
            input=stdin,
            capture_output=True,
            text=True,
            timeout=self.left(),
        )
        if check and done.returncode != 0:
            raise Failed(f"`airunner-cli {' '.join(args)}` exited with {done.returncode}: {done.stderr.strip()}")
        return done.returncode, done.stdout, done.stderr

    def start(self, name, *command, env=None, pass_fds=(), stdout=None):
        """Starts a process of its own group; its standard error goes to a file."""
        log = open(self.private / f"{name}.log", "ab")
        process = subprocess.Popen(
            command,
            env={**self.env, **(env or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=stdout or log,
            stderr=log,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        log.close()
        process.name = name
        self.processes.append(process)
        return process

    def left(self):
        return max(0.1, DEADLINE - (time.monotonic() - self.began))

    def wait_for(self, what, condition):
        """Polls a condition about the outside until it holds."""
        end = time.monotonic() + min(20.0, self.left())
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.02)
        raise Failed(f"{what} did not happen in time")

    def log_of(self, name):
        path = self.private / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def clean_up(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                try:
                    os.killpg(process.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
        for process in self.processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if not self.keep:
            shutil.rmtree(self.root, ignore_errors=True)

    # -- the summary -------------------------------------------------------------------------------------------

    def step(self, title, act, *args):
        began = time.monotonic()
        try:
            result = act(*args)
        except (Failed, OSError, subprocess.TimeoutExpired, KeyError, ValueError) as error:
            print(f"  FAILED  {title}: {error}", flush=True)
            for name in ("server", "w1", "w2"):
                tail = self.log_of(name).splitlines()[-12:]
                if tail:
                    print(f"--- the end of {name}'s log", *tail, sep="\n  ", file=sys.stderr)
            raise
        note = f"  ({result})" if isinstance(result, str) else ""
        print(f"  {time.monotonic() - began:6.2f} s  {title}{note}", flush=True)
        self.steps.append(title)
        return result


class Watcher:
    """`job attach`, with everything that it printed."""

    def __init__(self, demo, name, job, *options):
        self.chunks = []
        self.seen = threading.Condition()
        self.process = demo.start(
            name, demo.bin / "airunner-cli", "job", "attach", job, *options, stdout=subprocess.PIPE
        )
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        while True:
            chunk = os.read(self.process.stdout.fileno(), 65536)
            with self.seen:
                if not chunk:
                    self.seen.notify_all()
                    return
                self.chunks.append(chunk)
                self.seen.notify_all()

    def output(self):
        with self.seen:
            return b"".join(self.chunks)

    def wait_for_lines(self, count, timeout):
        with self.seen:
            if not self.seen.wait_for(lambda: b"".join(self.chunks).count(b"\n") >= count, timeout):
                raise Failed(f"{self.process.name} saw only {b''.join(self.chunks)!r}")


class Connection:
    """One TLS connection with a principal's certificate, kept open: the calls of a client that never reconnects."""

    PATH = "/airunner.principal.v1.PrincipalService/WhoAmI"

    def __init__(self, address, identity, ca):
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(identity / "cert.pem", identity / "key.pem")
        host, port = address.rsplit(":", 1)
        self.http = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)

    def who_am_i(self):
        """The gRPC status and message; 0 where the call was served."""
        self.http.request(
            "POST", self.PATH, body=b"\0\0\0\0\0", headers={"Content-Type": "application/grpc", "TE": "trailers"}
        )
        answer = self.http.getresponse()
        status = answer.getheader("grpc-status")
        answer.read()
        return int(status or 0), answer.getheader("grpc-message") or ""


# -- the steps ---------------------------------------------------------------------------------------------------


def start_emulator(demo):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo.endpoint = f"http://127.0.0.1:{port}"
    settings = {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "SERVICES": "dynamodb,s3,kms,ssm,secretsmanager,sts",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    demo.start("emulator", demo.emulator, env=settings)
    demo.wait_for("the emulator's first word", lambda: "Running on" in demo.log_of("emulator"))
    # It takes any credentials; the SDK wants some.
    demo.env |= {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo", "AWS_EC2_METADATA_DISABLED": "true"}
    return demo.endpoint


def bootstrap(demo):
    place = ["--environment=local"]
    if demo.emulator:
        place = ["--environment=dev", "--domain=localhost", "--create", "--aws-region=eu-central-1"]
        place.append(f"--aws-endpoint={demo.endpoint}")
    addresses = [f"--{name}-addr=127.0.0.1:0" for name in ("api", "public", "plain", "metrics")]
    demo.cli("bootstrap", *place, *addresses)
    config = demo.private / "home" / "server.toml"
    text = config.read_text()
    # The workers of the demo are processes of their own.
    text = re.sub(r"(?m)^embedded = true", "embedded = false", text)
    config.write_text(text)
    _, out, _ = demo.cli("bootstrap", *place, *addresses, "--output", "json")
    again = {step["outcome"] for step in json.loads(out)["steps"]} - {"found", "verified", "not needed"}
    if again:
        raise Failed(f"run again, it did more: {out}")
    return "CA, server and admin certificates, profile; run again, it finds them"


def start_server(demo):
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    demo.server = demo.start(
        "server",
        demo.bin / "airunner-server",
        "--config",
        demo.private / "home" / "server.toml",
        "--ready-fd",
        str(writer),
        pass_fds=(writer,),
    )
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], min(20.0, demo.left()))
    line = os.read(reader, 4096) if ready else b""
    os.close(reader)
    if not line:
        raise Failed("the server does not say that it is ready")
    demo.addresses = json.loads(line)
    demo.env["AIRUNNER_SERVER"] = f"https://{demo.addresses['api']}"
    plain = http.client.HTTPConnection(demo.addresses["plain"], timeout=5)
    plain.request("GET", "/health")
    if json.loads(plain.getresponse().read()) != {"status": "ok"}:
        raise Failed("/health does not answer ok")
    code, out, _ = demo.cli("principal", "list", "--output", "json")
    if "admin" not in out:
        raise Failed(f"the admin is not in the registry: {out}")
    return f"on {demo.addresses['api']}"


def enrol(demo, name):
    demo.cli("principal", "create", name, "--type", "worker")
    _, out, _ = demo.cli("enrollment", "create", name, "--address", demo.addresses["public"])
    secret = out.strip().split()[-1]
    folder = demo.private / name
    demo.cli("enroll", "--output-dir", str(folder), env={"AIRUNNER_ENROLL_TOKEN": secret})
    identity = folder / "current"
    if stat.S_IMODE((identity / "key.pem").stat().st_mode) != 0o600:
        raise Failed("the worker's key can be read by others")
    code, _, _ = demo.cli(
        "enroll", "--output-dir", str(demo.private / "thief"), env={"AIRUNNER_ENROLL_TOKEN": secret}, check=False
    )
    if code == 0:
        raise Failed("the secret could be used twice")
    return "its secret works once"


def start_worker(demo, name):
    args = [demo.bin / "airunner-cli", "worker", "--identity", str(demo.private / name)]
    args += ["--git-protocols", "https,ssh,file", "--visibility-timeout", "10s"]
    # Jobs run as another user where the demo runs as root, and must be able to reach their workspace.
    args += ["--state-dir", str(demo.root / f"{name}-state")]
    if os.geteuid() != 0:
        args.append("--same-user")
    demo.start(name, *args)


def make_repository(demo):
    repository = demo.root / "project"
    (repository / "tests").mkdir(parents=True)
    (repository / "README").write_text("A project with a test script of its own.\n")
    script = repository / "tests" / "run.sh"
    script.write_text(
        "#!/bin/sh\n"
        "# Prints its progress, and goes on until the stage is set for its end.\n"
        "set -eu\n"
        'test -f README || { echo "not in the checkout" >&2; exit 9; }\n'
        "i=0\n"
        f"while [ $i -lt {TICKS} ]; do\n"
        "  i=$((i + 1))\n"
        '  echo "check $i of $(git rev-parse --short HEAD): ok"\n'
        "  sleep 0.25\n"
        "done\n"
        'echo "all checks passed" >&2\n'
    )
    script.chmod(0o755)
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["commit", "-q", "-m", "The project"],
    ):
        subprocess.run(["git", "-C", repository, *command], env=demo.env, check=True, capture_output=True)
    demo.repository = f"file://{repository}"
    commit = subprocess.run(
        ["git", "-C", repository, "rev-parse", "HEAD"], env=demo.env, check=True, capture_output=True, text=True
    )
    demo.commit = commit.stdout.strip()
    return demo.commit[:12]


def submit(demo):
    _, out, _ = demo.cli("job", "submit", "--repo", f"{demo.repository}#{demo.commit}", "--", "./tests/run.sh")
    demo.job = out.strip().split()[-1]
    demo.watcher = Watcher(demo, "watcher-1", demo.job, "--from", "start")
    demo.second = Watcher(demo, "watcher-2", demo.job, "--from", "start")
    demo.watcher.wait_for_lines(2, demo.left())
    demo.second.wait_for_lines(2, demo.left())
    return demo.job


def detach_and_attach(demo):
    second = demo.second
    second.process.send_signal(signal.SIGINT)
    second.process.wait(timeout=10)
    second.thread.join(timeout=10)
    told = re.findall(r"--from (\d+)", demo.log_of("watcher-2"))
    if not told:
        raise Failed(f"the watcher did not say where to go on: {demo.log_of('watcher-2')!r}")
    demo.first_half = second.output()
    lines = demo.watcher.output().count(b"\n")
    demo.watcher.wait_for_lines(lines + 2, demo.left())
    demo.third = Watcher(demo, "watcher-2-again", demo.job, "--from", told[-1])
    return "detached, the job went on, attached where it left off"


def rotate(demo):
    before = os.readlink(demo.private / "w1" / "current")
    demo.cli("renew", "--identity", str(demo.private / "w1"))
    after = os.readlink(demo.private / "w1" / "current")
    if before == after:
        raise Failed("the certificate is the same")
    serial = pathlib.Path(after).name

    def in_use():
        _, out, _ = demo.cli("certificate", "get", serial, "--output", "json")
        return json.loads(out).get("first_seen_at")

    demo.wait_for("the worker's use of its new certificate", in_use)
    lines = demo.watcher.output().count(b"\n")
    demo.watcher.wait_for_lines(lines + 2, demo.left())
    return f"now {serial}, the job undisturbed"


def suspend(demo):
    identity = demo.private / "w1" / "current"
    old = Connection(demo.addresses["api"], identity, identity / "ca.pem")
    if old.who_am_i()[0] != 0:
        raise Failed("the worker was refused before its suspension")
    demo.cli("principal", "suspend", "w1", "--reason", "demo", "--yes")
    status, message = old.who_am_i()
    if status != 16:
        raise Failed(f"on its old connection the suspended worker got {status} {message}")
    status, message = Connection(demo.addresses["api"], identity, identity / "ca.pem").who_am_i()
    if status != 16:
        raise Failed(f"on a new connection the suspended worker got {status} {message}")
    worker = next(process for process in demo.processes if process.name == "w1")
    demo.wait_for("the end of the suspended worker", lambda: worker.poll() is not None)
    if "principal-suspended" not in demo.log_of("w1"):
        raise Failed("the worker does not say why it ended")
    return "its streams ended, refused on the old and on a new connection"


def revoke(demo):
    demo.cli("certificate", "revoke", "--principal", "w1", "--reason", "keyCompromise", "--yes")
    identity = demo.private / "w1" / "current"
    try:
        status, message = Connection(demo.addresses["api"], identity, identity / "ca.pem").who_am_i()
    except ssl.SSLError as error:
        if "revoked" not in str(error).lower():
            raise Failed(f"another alert: {error}") from error
        return "the handshake gets the alert certificate_revoked"
    raise Failed(f"the revoked certificate shook hands and got {status} {message}")


def take_over(demo):
    start_worker(demo, "w2")
    for watcher in (demo.watcher, demo.third):
        try:
            code = watcher.process.wait(timeout=demo.left())
        except subprocess.TimeoutExpired as error:
            raise Failed("the job did not end") from error
        watcher.thread.join(timeout=10)
        if code != 0:
            raise Failed(f"{watcher.process.name} ended with {code}: {demo.log_of(watcher.process.name)}")
    _, out, _ = demo.cli("job", "status", demo.job)
    if out.strip() != "completed":
        raise Failed(f"the job is {out.strip()}")
    _, out, _ = demo.cli("job", "list", "--output", "json")
    job = next(job for job in json.loads(out)["jobs"] if job["job_id"] == demo.job)
    if job["attempt"] < 2:
        raise Failed("the job was not taken over")
    return f"attempt {job['attempt']}, every check passed"


def compare(demo):
    whole = demo.watcher.output()
    pieced = demo.first_half + demo.third.output()
    if whole != pieced:
        raise Failed(f"the watchers differ: {len(whole)} and {len(pieced)} bytes")
    _, logs, _ = demo.cli("job", "logs", demo.job, "--stream", "stdout")
    if logs.encode() != whole:
        raise Failed("what is kept is not what was seen")
    tail = whole.decode().splitlines()[-TICKS:]
    if [line.split()[1] for line in tail] != [str(n) for n in range(1, TICKS + 1)]:
        raise Failed("the second attempt's output is not whole")
    return f"{len(whole)} bytes, nothing missed, nothing twice"


# What a job does to show who it is: a call like any other, with what its environment names.
WHO_AM_I = """
import http.client, os, ssl
context = ssl.create_default_context(cafile=os.environ["AIRUNNER_CACERT"])
context.load_cert_chain(os.environ["AIRUNNER_CLIENT_CERT"], os.environ["AIRUNNER_CLIENT_KEY"])
host, port = os.environ["AIRUNNER_SERVER"].removeprefix("https://").rsplit(":", 1)
server = http.client.HTTPSConnection(host, int(port), context=context, timeout=10)
server.request("POST", "/airunner.principal.v1.PrincipalService/WhoAmI", "{}", {"content-type": "application/json"})
print(server.getresponse().read().decode())
"""


def certified(demo):
    _, out, _ = demo.cli("job", "exec", "--grant", "jobs:list", "--", "python3", "-c", WHO_AM_I)
    me = json.loads(out)
    job, uri = me["jobId"], me["spiffeId"]
    if not uri.endswith(f"/job/{job}") or sorted(me["permissions"]) != ["anonymous", "jobs:list", "self"]:
        raise Failed(f"the job is not taken for itself: {me}")
    _, out, _ = demo.cli("certificate", "get", me["serialNumber"], "--output", "json")
    record = json.loads(out)
    if not record["revoked"]:
        raise Failed("the job has ended, and its certificate has not")
    return uri


def audited(demo):
    _, out, _ = demo.cli("audit", "tail", "--n", "100", "--output", "json")
    actions = {entry["action"] for entry in json.loads(out)["entries"]}
    missing = {
        "principal.create", "enrollment.create", "enrollment.enroll", "certificate.renew", "principal.suspend",
        "certificate.revoke", "job.enqueue",
    } - actions
    if missing:
        raise Failed(f"not in the audit log: {', '.join(sorted(missing))}")
    return "each act has its entry"


def in_aws(demo):
    home = demo.private / "home"
    if (home / "airunner.db").exists() or (home / "output").exists():
        raise Failed("something is kept in files")
    buckets = urllib.request.urlopen(f"{demo.endpoint}/", timeout=5).read().decode()
    bucket = re.search(r"<Name>([^<]*)</Name>", buckets).group(1)
    listed = urllib.request.urlopen(f"{demo.endpoint}/{bucket}?list-type=2", timeout=5).read().decode()
    objects = re.findall(r"<Key>([^<]*)</Key>", listed)
    if not any(demo.job in key for key in objects):
        raise Failed(f"the job's output is not in {bucket}: {objects}")
    return f"the job's output is {sum(demo.job in key for key in objects)} objects in {bucket}"


def run(demo):
    if demo.emulator:
        demo.step("an emulator of AWS started", start_emulator, demo)
    demo.step("bootstrap of an environment", bootstrap, demo)
    demo.step("server started", start_server, demo)
    demo.step("worker w1 enrolled with a one-time secret", enrol, demo, "w1")
    demo.step("worker w2 enrolled", enrol, demo, "w2")
    demo.step("worker w1 started", start_worker, demo, "w1")
    demo.step("a git repository with a test script", make_repository, demo)
    demo.step("job runs, followed live by two watchers", submit, demo)
    demo.step("one watcher detached and attached again", detach_and_attach, demo)
    demo.step("w1's certificate rotated while the job runs", rotate, demo)
    demo.step("w1 suspended in the middle of the job", suspend, demo)
    demo.step("w1's certificate revoked", revoke, demo)
    demo.step("w2 took the job over and completed it", take_over, demo)
    demo.step("both watchers saw the same", compare, demo)
    demo.step("a job showed which job it is, until it ended", certified, demo)
    demo.step("audit log", audited, demo)
    if demo.emulator:
        demo.step("nothing but keys and configuration in files", in_aws, demo)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True, help="the folder that holds airunner-server and airunner-cli")
    parser.add_argument("--keep", action="store_true", help="leave the temporary directory behind")
    parser.add_argument("--aws", metavar="EMULATOR", help="run over AWS, in this emulator (ministack)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    demo = Demo(args.bin, args.keep, args.aws)
    try:
        run(demo)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (Failed, OSError, subprocess.TimeoutExpired, KeyError, ValueError):
        return 1
    finally:
        demo.clean_up()
    print(f"demo: {len(demo.steps)} steps in {time.monotonic() - demo.began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
