"""A real Slurm of several nodes on this machine: slurmctld, a slurmd for each node, faked GPUs, preemption.

`with running(): ...` in tests (fixture `slurm`), or `python tests/cluster/slurm_cluster.py` by hand, until Ctrl-C.
Everything is on loopback, on free ports and below one temporary folder; whatever happens to the process that started
it, a guard ends the daemons and every process of their jobs.

Debian's packages: slurm-wlm; for accounting also slurmdbd slurm-wlm-mysql-plugin mariadb-server-core
mariadb-client-core. Nothing of theirs has to be configured or running.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

DAEMONS = ("slurmctld", "slurmd", "sbatch", "squeue", "srun", "scontrol")
ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db", "sacct")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing(*, accounting: bool = False) -> str | None:
    """Why no cluster can be started here; None: it can."""
    absent = [name for name in DAEMONS + ACCOUNTING * accounting if not shutil.which(name, path=PATH)]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return None if os.geteuid() == 0 else "slurmd has to be started by root"


@dataclass
class Cluster:
    """A running cluster; `nodes` are n1, n2, ..."""

    folder: Path
    nodes: list[str]
    environment: dict[str, str]  # of the daemons, and what a command needs to find them
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def command(self, *words: str, check: bool = True) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def queue(self) -> dict[str, str]:
        """Job (array elements one by one) -> state, of those that are not over."""
        lines = self.command("squeue", "-h", "-r", "-o", "%F_%K %T").splitlines()
        return dict(line.replace("_N/A", "").split() for line in lines)

    def wait(self, condition: Callable[[], object], seconds: float = 60, what: str = "") -> None:
        """Until a condition holds.

        Raises:
            TimeoutError: with the queue and the nodes, when it does not.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                states = self.command("sinfo", "-N", "-h", "-o", "%N=%T", check=False).split()
                raise TimeoutError(f"{what or 'condition'} not met in {seconds} s: {self.queue()} {states}")
            time.sleep(0.1)

    def wait_until_empty(self, seconds: float = 120) -> None:
        """Until no job is pending or running."""
        self.wait(lambda: not self.queue(), seconds, "an empty queue")

    def start_node(self, name: str) -> None:
        """Start a node's slurmd; a node that was down comes back."""
        self.daemons[name] = self._start("slurmd", "-D", "-N", name, of=name)

    def kill_slurmd(self, name: str) -> None:
        """The daemon alone: its jobs go on, and Slurm takes the node for dead."""
        self._kill(name, signal.SIGKILL)

    def kill_node(self, name: str) -> None:
        """A power cut: the daemon and everything that runs on the node, at once."""
        self.kill_slurmd(name)
        # One may be born while others are killed, and a dead one takes a moment to be gone.
        for _ in range(200):
            gone = [pid for pid in self._processes() if self.node_of(pid) == name]
            if not gone:
                return
            # slurmstepd first: it would tell slurmctld that its job ended, which a node without power does not.
            for pid in sorted(gone, key=lambda pid: "SLURM_JOB_ID" in _environ(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        raise TimeoutError(f"processes of {name} outlive SIGKILL: {gone}")

    def workers(self) -> list[int]:
        """Processes that jobs started, on any node."""
        return [pid for pid in self._processes() if "SLURM_JOB_ID" in _environ(pid)]

    def node_of(self, pid: int) -> str | None:
        """The node on which a process of the cluster runs."""
        environ = _environ(pid)
        return environ.get("SLURMD_NODENAME") or environ.get("SLURM_CLUSTER_NODE")

    def states(self) -> dict[str, str]:
        """Node -> state, in Slurm's words."""
        return dict(
            line.split()
            for line in self.command("sinfo", "-h", "-N", "-p", "main", "-o", "%N %T").splitlines()
        )

    def reset(self) -> None:
        """No job, every node idle."""
        for name in self.nodes:
            if self.daemons[name].poll() is not None:
                self.start_node(name)
        self.command("scancel", "--quiet", "-u", self.command("id", "-un").strip(), check=False)
        self.wait(lambda: not self.queue(), 30, "an empty queue")
        self.wait(lambda: all(state == "idle" for state in self.states().values()), 60, "idle nodes")

    def _start(self, *words: str, of: str = "") -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}.out").open("ab") as out:
            return subprocess.Popen(
                words,
                env={**self.environment, "SLURM_CLUSTER_NODE": of},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _kill(self, name: str, number: int) -> None:
        daemon = self.daemons[name]
        if daemon.poll() is None:
            daemon.send_signal(number)
            daemon.wait(30)

    def _processes(self) -> list[int]:
        return processes_of(self.conf)


def processes_of(conf: Path) -> list[int]:
    """Every process of a cluster and of its jobs: those with its SLURM_CONF, but for whoever uses it from outside."""
    mine = os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != mine:
            environ = _environ(int(entry.name))
            outside = "SLURM_CLUSTER_NODE" not in environ and "SLURM_JOB_ID" not in environ
            if environ.get("SLURM_CONF") == str(conf) and not outside:
                found.append(int(entry.name))
    return found


def _environ(pid: int) -> dict[str, str]:
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # gone
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


@contextlib.contextmanager
def running(
    *,
    nodes: int = 4,
    cpus: int = 4,
    gpus: int = 2,
    accounting: bool = False,
    options: tuple[str, ...] = (),
) -> Iterator[Cluster]:
    """A cluster for the length of a block.

    Args:
        nodes: how many.
        cpus: of each node, whatever this machine has.
        gpus: of each node; they are /dev/null, and CUDA_VISIBLE_DEVICES is set as for real ones.
        accounting: with a real slurmdbd, so that sacct answers (3 s more).
        options: lines for slurm.conf, such as "MaxArraySize=5".
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    environment = {
        "PATH": PATH,
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "SLURM_CONF": str(folder / "slurm.conf"),
    }
    cluster = Cluster(folder, [f"n{number + 1}" for number in range(nodes)], environment)
    guard = subprocess.Popen(
        [sys.executable, __file__, "guard", folder], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        _configure(cluster, cpus, gpus, accounting, options)
        if accounting:
            _start_accounting(cluster)
        cluster.daemons["slurmctld"] = cluster._start("slurmctld", "-D", "-i")
        cluster.wait(lambda: "UP" in cluster.command("scontrol", "ping", check=False), 30, "slurmctld")
        for name in cluster.nodes:
            cluster.start_node(name)
        cluster.wait(lambda: set(cluster.states().values()) == {"idle"}, 30, "idle nodes")
        yield cluster
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait(60)
        for daemon in cluster.daemons.values():
            daemon.wait(30)


def _configure(cluster: Cluster, cpus: int, gpus: int, accounting: bool, options: tuple[str, ...]) -> None:
    folder, host = cluster.folder, socket.gethostname().split(".")[0]
    ports = _free_ports(len(cluster.nodes) + 2)
    for name in ("state", "gpu", *(f"spool/{node}" for node in cluster.nodes)):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    for number in range(gpus):
        (folder / "gpu" / f"gpu{number}").symlink_to("/dev/null")  # slurmd wants character devices
    lines = [
        "ClusterName=lab",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/none",  # of this machine's loopback; munge would have to run
        "CredType=cred/none",
        "AuthInfo=cred_expire=6",  # seconds that a requeued job waits; below 5 it would be the default, 120
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        "MpiDefault=none",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "DefMemPerCPU=100",
        "SlurmdParameters=config_overrides",
        "GresTypes=gpu",
        "ReturnToService=2",
        "SlurmdTimeout=5",  # a silent node is DOWN after so many seconds
        "KillWait=2",
        "MinJobAge=300",
        "CompleteWait=0",
        "MaxJobCount=50000",
        f"FirstJobId={int(time.time()) % 60000000 + 1000}",  # ids of another cluster never come again
        "SchedulerType=sched/backfill",
        "SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0,sched_min_interval=100000",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd.%n.pid",
        f"SlurmctldLogFile={folder}/slurmctld.log",
        f"SlurmdLogFile={folder}/slurmd.%n.log",
    ]
    if accounting:
        lines += [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={ports[1]}",
            "AccountingStorageEnforce=associations,limits",
        ]
        database = f"""\
AuthType=auth/none
CommunicationParameters=NoInAddrAny
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[1]}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
"""
        (folder / "slurmdbd.conf").write_text(database)
        (folder / "slurmdbd.conf").chmod(0o600)
        cluster.environment["MYSQL_UNIX_PORT"] = str(folder / "my.sock")
    own = {option.partition("=")[0] for option in options}
    lines = [line for line in lines if line.partition("=")[0] not in own] + list(options)
    gres = f" Gres=gpu:{gpus}" if gpus else ""
    lines += [
        f"NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=8000{gres}"
        for node, port in zip(cluster.nodes, ports[2:], strict=True)
    ]
    lines += [
        "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30",
        "PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF",
    ]
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    files = ",".join(str(folder / "gpu" / f"gpu{number}") for number in range(gpus))
    gpu_lines = [f"Name=gpu File={file} Flags=nvidia_gpu_env" for file in files.split(",") if file]
    (folder / "gres.conf").write_text("".join(line + "\n" for line in gpu_lines))


def _start_accounting(cluster: Cluster) -> None:
    folder = cluster.folder
    made = ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}/db", "--skip-test-db"]
    made += ["--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"]
    subprocess.run(made, env=cluster.environment, stdout=subprocess.DEVNULL, check=True)
    small = [
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=8M",
        "--innodb-flush-log-at-trx-commit=0",
    ]
    cluster.daemons["mariadbd"] = cluster._start(
        *("mariadbd", "--no-defaults", "--user=root", f"--datadir={folder}/db", f"--socket={folder}/my.sock"),
        *(
            "--skip-networking",
            "--skip-log-bin",
            "--performance-schema=OFF",
            "--innodb-lock-wait-timeout=900",
        ),
        *(*small, f"--log-error={folder}/mariadbd.log"),
    )
    cluster.wait(lambda: (folder / "my.sock").exists(), 30, "mariadbd")
    cluster.daemons["slurmdbd"] = cluster._start("slurmdbd", "-D")
    show = ("sacctmgr", "-n", "-P", "list", "cluster")
    cluster.wait(lambda: _answers(cluster, *show), 30, "slurmdbd")
    for words in (
        ("add", "cluster", "lab"),
        ("add", "account", "team"),
        ("add", "user", "root", "account=team"),
    ):
        cluster.command("sacctmgr", "-i", "-Q", *words, check=False)


def _answers(cluster: Cluster, *words: str) -> bool:
    try:
        cluster.command(*words)
    except RuntimeError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _guard(folder: Path) -> None:
    """Wait until whoever started the cluster is done with it or gone; then end all of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    deadline = time.monotonic() + 20
    while found := processes_of(folder / "slurm.conf"):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["guard"]:
        _guard(Path(sys.argv[2]))
    elif reason := missing():
        sys.exit(f"no Slurm here: {reason}")
    else:
        with running() as cluster:
            print(f"export SLURM_CONF={cluster.conf}", flush=True)
            print(f"# nodes {' '.join(cluster.nodes)}; Ctrl-C ends the cluster", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
