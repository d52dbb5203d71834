"""The files of a RealCluster: what its daemons and commands read, all of it in one folder."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

NODES = ("n1", "n2", "n3", "n4")
CPUS, GPUS = 16, 4

# A requeued job waits for cred_expire: it is as short as Slurm honours it (below 5 would be taken as 120). SlurmdTimeout and
# KillWait are Slurm's own: on a busy machine a node may be slow to answer, and a task to end, without being lost.
# File= of a GPU must be a device: links to /dev/null are, and need no privilege.
SLURM_CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock,cred_expire=5
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/pid/slurmctld
SlurmdPidFile={folder}/pid/slurmd-%n
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
DebugFlags=NO_CONF_HASH
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=200000,batch_sched_delay=0,bf_interval=1,bf_continue
ReturnToService=2
SlurmctldTimeout=10
SlurmdTimeout=300
MessageTimeout=10
InactiveLimit=0
KillWait=30
CompleteWait=0
MinJobAge=30
OverTimeLimit=0
JobRequeue=1
MaxJobCount=10000
MailProg=/bin/true
NodeName=n[1-4] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs={cpus} RealMemory=16000 Gres=gpu:{gpus}
PartitionName=main Nodes=ALL Default=YES MaxTime=1-00:00:00 DefaultTime=10 State=UP
"""
ACCOUNTING_CONF = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge/sock
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
PreemptType=preempt/qos
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PriorityType=priority/multifactor
PriorityWeightQOS=1000
"""
GRES_CONF = """\
AutoDetect=off
NodeName=n[1-4] Name=gpu File={folder}/dev/nvidia[0-{last_gpu}] Flags=nvidia_gpu_env
"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/pid/slurmdbd
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageLoc=slurm_acct
StorageUser=root
"""
# A server that starts deletes the temporary tables it finds in tmpdir: in /tmp, those of its neighbours. libmariadb takes
# the socket from MYSQL_UNIX_PORT. Nobody else reaches the database: no TCP, and a folder of root's.
DATABASE = "--no-defaults --user=root --datadir={0}/data --tmpdir={0}/tmp --innodb-log-file-size=8M"
DATABASE_SERVER = " --socket={0}/sock --skip-networking --skip-grant-tables --innodb-flush-log-at-trx-commit=0"
MUNGE = "--foreground --force --key-file={0}/key --socket={0}/sock --pid-file={0}/pid --seed-file={0}/seed"


def write_folder(folder: Path, port: int) -> None:
    """Everything in a cluster's new folder but slurm.conf."""
    for name in ("etc", "munge", "db", "db/tmp", "dev", "log", "pid", "state", "spool"):
        (folder / name).mkdir(mode=0o700 if name.startswith("db") else 0o755)
    for number in range(GPUS):
        (folder / "dev" / f"nvidia{number}").symlink_to("/dev/null")
    key = folder / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    (folder / "etc" / "gres.conf").write_text(GRES_CONF.format(folder=folder, last_gpu=GPUS - 1))
    dbd = folder / "etc" / "slurmdbd.conf"
    dbd.touch(mode=0o600)  # slurmdbd insists
    dbd.write_text(SLURMDBD_CONF.format(folder=folder, dbd_port=port + 1))


def write_slurm_conf(folder: Path, port: int, *, accounting: bool, settings: dict[str, object]) -> None:
    """slurm.conf, with `settings` in place of the lines of their names or after them."""
    text = (SLURM_CONF + ACCOUNTING_CONF * accounting).format(
        host=socket.gethostname().partition(".")[0],
        folder=folder,
        port=port,
        dbd_port=port + 1,
        first=port + 11,
        last=port + 10 + len(NODES),
        cpus=CPUS,
        gpus=GPUS,
    )
    for name, value in settings.items():
        text = re.sub(rf"(?m)^{name}=.*\n", "", text) + f"{name}={value}\n"
    (folder / "etc" / "slurm.conf").write_text(text)
