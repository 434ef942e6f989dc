"""Runs the checks of tools/check-terraform, two rows of them at a time: the load balancer takes a minute to come, in
which the others are done. What AWS is asked stands in aws_side.py."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from aws_side import Account

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "infra" / "terraform"
BIN = Path(sys.executable).parent
REGION = "eu-central-1"
# The whole, and what any one command may take, in seconds.
MOST_IN_ALL = 900
MOST = 300
# The parts that `bootstrap --create` makes before Terraform comes.
MADE_BEFORE = ["module.tables", "module.keys", "module.parameters", "module.secret", "module.storage"]
KINDS = ["tables", "root_key", "sealing_key", "parameters", "secret", "bucket"]
# What is put in place whether there was one before or not, and so need not be imported.
PUT = ("aws_s3_bucket_", "aws_secretsmanager_secret_policy")


class Failed(Exception):
    """A check that did not hold, with what there is to see."""


class Checks:
    """What was checked, and how it went."""

    def __init__(self) -> None:
        self.passed, self.failed = 0, 0
        self.lock = threading.Lock()

    def run(self, name: str, check, *arguments) -> bool:
        started = time.monotonic()
        try:
            check(*arguments)
        except Exception as error:  # Whatever it is, the others are to be run too.
            self.tell(name, started, f"{type(error).__name__}: {error}")
            return False
        self.tell(name, started, None)
        return True

    def tell(self, name: str, started: float, error: str | None) -> None:
        if STOPPED.is_set():
            return
        with self.lock:
            self.passed += error is None
            self.failed += error is not None
            print(f"{'FAIL' if error else 'ok  '} {name} ({time.monotonic() - started:.1f} s)", flush=True)
            if error:
                print("     " + error.replace("\n", "\n     "), flush=True)

    def row(self, *checks) -> None:
        """Runs checks one after the other, up to one that fails: those behind it need what it was to do."""
        for name, check, *arguments in checks:
            if not self.run(name, check, *arguments):
                break


def environment(folder: Path, more: dict[str, str]) -> dict[str, str]:
    """Nothing of the machine's own settings of Terraform and AWS, and nothing written outside of `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_"))}
    return kept | {
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONDONTWRITEBYTECODE": "1",
    } | more


def run(command: list, cwd: Path, env: dict[str, str], expect: int = 0, most: int = MOST) -> str:
    """Runs a command in a group of its own, which ends with it."""
    if STOPPED.is_set():
        raise Failed("stopped")
    # `start_new_session` makes it the leader of its group.
    process = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, env=env, text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    RUNNING.add(process.pid)
    try:
        output, _ = process.communicate(timeout=most)
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        output, _ = process.communicate()
        raise Failed(f"{command[0]} {command[1]} took longer than {most} s\n{last_lines(output)}") from None
    finally:
        RUNNING.discard(process.pid)
    if process.returncode != expect:
        raise Failed(f"{command[0]} {command[1]} ended with {process.returncode}, not {expect}\n{last_lines(output)}")
    return output


# The groups that run, and whether no more are to come.
RUNNING: set[int] = set()
STOPPED = threading.Event()


def end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def last_lines(output: str) -> str:
    return "\n".join(output.rstrip().splitlines()[-120:])


def provider_installation(folder: Path, env: dict[str, str]) -> str:
    """Where Terraform gets the provider: a mirror that is named, one that is found, or the registry."""
    named = env.get("TERRAFORM_MIRROR")
    found = [named] if named else sorted(
        str(Path(line).parent)
        for line in subprocess.run(
            ["find", "/", "-maxdepth", "3", "-name", "proc", "-prune", "-o", "-type", "d", "-name",
             "registry.terraform.io", "-print"],
            capture_output=True, text=True, timeout=60, check=False,
        ).stdout.splitlines()
    )
    for mirror in found:
        if (Path(mirror) / "registry.terraform.io" / "hashicorp" / "aws").is_dir():
            return f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
    if named:
        raise Failed(f"there is no registry.terraform.io/hashicorp/aws in TERRAFORM_MIRROR={named}")
    # Fetched once, whatever copies of the module there are.
    (folder / "plugins").mkdir()
    return f'plugin_cache_dir = "{folder}/plugins"\nprovider_installation {{\n  direct {{}}\n}}\n'


class Workspace:
    """A copy of the module, in which Terraform may leave what it leaves."""

    def __init__(self, folder: Path, name: str, endpoint: str = "http://127.0.0.1:9") -> None:
        self.path = folder / name
        self.env = environment(folder, {
            "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        })

    def copy_of(self, other: Path) -> "Workspace":
        shutil.copytree(other, self.path, symlinks=True)
        return self

    def terraform(self, *arguments: str, expect: int = 0) -> str:
        command, *rest = arguments
        return run(["terraform", command, "-no-color", *rest], self.path, self.env, expect)

    def apply(self, *arguments: str) -> None:
        self.terraform("apply", "-input=false", "-auto-approve", *arguments)

    def destroy(self, *arguments: str) -> None:
        """A deletion that the emulator answered with a failure after it was done is asked for again by the provider, which
        then takes it for another failure that there is nothing: the second run finds that all is well."""
        destroy = ("destroy", "-input=false", "-auto-approve", *arguments)
        try:
            self.terraform(*destroy)
        except Failed as failed:
            if "ResourceNotFoundException" not in str(failed):
                raise
            self.terraform(*destroy)

    def plan_is_empty(self, *arguments: str) -> None:
        # 0 is an empty plan, 2 one with changes.
        self.terraform("plan", "-input=false", "-lock=false", "-detailed-exitcode", *arguments)


@contextmanager
def emulator(folder: Path):
    """An account of its own, on loopback."""
    log = tempfile.NamedTemporaryFile("w+", dir=folder, suffix=".log", delete=False)
    process = subprocess.Popen(
        [sys.executable, "-B", str(ROOT / "tools/terraform/emulator.py"), "-H", "127.0.0.1", "-p", "0"],
        cwd=folder, env=environment(folder, {}), start_new_session=True, stdout=log, stderr=subprocess.STDOUT,
    )
    RUNNING.add(process.pid)
    try:
        yield listening_at(process, Path(log.name))
    finally:
        end_group(process.pid)
        process.wait()
        RUNNING.discard(process.pid)


def listening_at(process: subprocess.Popen, log: Path) -> str:
    """The address that it prints once it listens."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        for word in log.read_text().split():
            if word.startswith("http://127.0.0.1:"):
                with urllib.request.urlopen(f"{word}/moto-api/", timeout=30):
                    return word
        time.sleep(0.1)
    raise Failed(f"the emulator does not run\n{last_lines(log.read_text())}")


def whole_life(checks: Checks, folder: Path, ready: Path) -> None:
    """Made out of nothing, filled by bootstrap, and taken away."""
    small = "-var-file=examples/small.tfvars"
    with emulator(folder) as endpoint:
        work = Workspace(folder, "life", endpoint).copy_of(ready)
        account = Account(endpoint, REGION, "dev")
        checks.row(
            ("apply makes the small example", work.apply, small),
            ("a second plan is empty", work.plan_is_empty, small),
            ("tables in AWS are those of the code", account.tables_are, MODULE),
            ("the plain port is open to the balancer alone", account.plain_port_is_closed),
            ("bootstrap fills what waits for it", account.bootstrap),
            ("a plan after bootstrap is empty", work.plan_is_empty, small),
            ("another apply leaves what bootstrap wrote", lambda: (work.apply(small, "-var=log_days=60"), account.is_as_bootstrapped())),
            ("the CA's key is in no state", lambda: account.secret_is_not_in((work.path / "terraform.tfstate").read_text())),
            ("destroy takes everything", work.destroy, small),
            ("nothing is left", account.is_empty),
        )


def adoption(checks: Checks, folder: Path, ready: Path) -> None:
    """Made by `bootstrap --create`, then taken over. The parts that it does not make are left out here."""
    adopting = [
        "-var-file=examples/small.tfvars", "-var=adopt=true", f"-var=adopt_kinds={json.dumps(KINDS)}",
        *[f"-target={part}" for part in MADE_BEFORE],
    ]
    with emulator(folder) as endpoint:
        work = Workspace(folder, "adoption", endpoint).copy_of(ready)
        account = Account(endpoint, REGION, "dev")
        checks.row(
            ("bootstrap --create comes first", lambda: (account.create(MODULE), account.bootstrap())),
            ("adoption makes and takes nothing that was there", adopted_only, work, adopting),
            ("apply adopts", work.apply, *adopting),
            ("what was there is still there", account.is_as_bootstrapped),
            ("a plan after adoption is empty", work.plan_is_empty, *adopting),
        )


def adopted_only(work: Workspace, arguments: list[str]) -> None:
    work.terraform("plan", "-input=false", "-out=plan", *arguments)
    changes = json.loads(work.terraform("show", "-json", "plan"))["resource_changes"]
    imported = [change["address"] for change in changes if change["change"].get("importing")]
    ours = [change for change in changes if change["mode"] == "managed" and not change["type"].startswith(PUT)]
    made = [change["address"] for change in ours if set(change["change"]["actions"]) & {"create", "delete"}]
    if made or len(imported) < 20:
        raise Failed(f"{len(imported)} are imported, and made or taken are {made}")


def static_checks(checks: Checks, folder: Path, ready: Path) -> None:
    """What needs no account."""
    work = Workspace(folder, "static").copy_of(ready)
    env = environment(folder, {})
    checks.run("terraform test, with a mocked provider", work.terraform, "test")
    for example in ("small", "full"):
        checks.run(
            f"the {example} example plans", work.terraform, "test", "-test-directory=tests/examples",
            f"-var-file=examples/{example}.tfvars",
        )
    checks.run("checkov", run, [BIN / "checkov", "--config-file", MODULE / ".checkov.yaml", "-d", MODULE], folder, env)
    checks.run("compose configuration", compose_is_valid, folder)
    checks.run("hadolint", run, [BIN / "hadolint", "--no-color", ROOT / "Dockerfile"], ROOT, env)


def compose_is_valid(folder: Path) -> None:
    run(["docker-compose", "-f", ROOT / "docker-compose.yml", "config", "-q"], folder, environment(folder, {}))


def check_all(checks: Checks, folder: Path) -> None:
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    work = Workspace(folder, "ready")
    ignored = shutil.ignore_patterns(".terraform*", "*.tfstate*")
    shutil.copytree(MODULE, work.path, ignore=ignored)
    (folder / "terraform.rc").write_text("disable_checkpoint = true\n" + provider_installation(folder, work.env))
    checks.run("terraform fmt", work.terraform, "fmt", "-check", "-recursive", "-diff")
    for tests in ("tests", "tests/examples"):
        init = ("init", "-backend=false", "-input=false", f"-test-directory={tests}")
        if not checks.run(f"terraform init, {tests}", work.terraform, *init):
            return
    checks.run("terraform validate", work.terraform, "validate")
    life = threading.Thread(target=whole_life, args=(checks, folder, work.path))
    life.start()
    adoption(checks, folder, work.path)
    static_checks(checks, folder, work.path)
    life.join()


def main() -> int:
    def stop(number: int, _frame) -> None:
        STOPPED.set()
        # The second time meets what another thread was about to start.
        for _ in range(2):
            for pid in list(RUNNING):
                end_group(pid)
            shutil.rmtree(folder, ignore_errors=True)
        why = f"not done after {MOST_IN_ALL} s" if number == signal.SIGALRM else f"stopped by signal {number}"
        print(f"FAIL {why}\n{checks.passed} passed, {checks.failed + 1} failed", flush=True)
        os._exit(1)

    checks = Checks()
    folder = Path(tempfile.mkdtemp(prefix="airunner-terraform-"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, stop)
    signal.alarm(MOST_IN_ALL)
    try:
        check_all(checks, folder)
    except Exception as error:
        checks.tell("the checks themselves", time.monotonic(), f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
