"""A soak: a run on a real Slurm of four nodes, in which something breaks every few seconds, and its files afterwards.

Rounds of `hpc.resume --once` alone, as cron starts them, bring it to its end. Then every committed byte is compared with
that of an undisturbed process. One table, and the same as JSON. Needs root and a Slurm, as tests/slurm does.
python -m benchmarks.soak
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for `support`

from support.real_cluster import PACKAGES, RealCluster, free_ports, missing_prerequisites
from support.runs import committed_bytes, slow_backend
from support.slurm_runs import SlurmRun

from benchmarks.soak_data import SoakTars, make_tars
from benchmarks.soak_faults import Lab
from benchmarks.soak_plan import DISK_FULL, KINDS, Kind, plan_faults
from benchmarks.soak_report import Ended, Result, as_text, bytes_lost, rows_of
from benchmarks.soak_rounds import Soak
from hpc.progress import scan
from hpc.run import Run
from jobs.commands import command_parser

__all__ = ["main", "soak"]

ROOT = Path(__file__).resolve().parent.parent
FIRST_PORT = 19300
CLIPS = 10
TARS_PER_TASK = 3
WORKERS = 16
BUSY_SHARE = 0.5
"""Of the soak's time, what the work would take all workers if nothing broke."""
TIME_LIMIT_MIN = 1
SMALLEST_DISK = 64 << 20
OWN_MOUNTS = "TAR2TOKENS_SOAK_MOUNTS"
"""Set in a process whose mounts end with it."""


def enter_own_mounts() -> None:
    """Start this command again where no mount outlives it, however it ends. Where that is refused nothing is mounted."""
    words = ["unshare", "--mount"]
    if OWN_MOUNTS in os.environ or not shutil.which("unshare") or subprocess.run([*words, "true"], check=False).returncode:
        return
    os.environ[OWN_MOUNTS] = "1"
    os.execvp("unshare", [*words, sys.executable, "-m", "benchmarks.soak", *sys.argv[1:]])


def mount_small_disk(folder: Path, size: int) -> bool:
    """A file system of `size` bytes at `folder`; False where this process may not mount, or the mount would outlive it."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tar2tokens-soak", str(folder)]
    return OWN_MOUNTS in os.environ and not subprocess.run(words, capture_output=True, check=False).returncode


def start_run(folder: Path, cluster: RealCluster, tars: SoakTars) -> tuple[SlurmRun, dict[str, bytes]]:
    """The run before it begins, and what an undisturbed process on this machine makes of its tars."""
    env = slow_backend(folder / "site")
    env["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), str(ROOT), str(ROOT / "tokenizers")])
    env.update({name: cluster.env[name] for name in ("PATH", "SLURM_CONF")})
    run = SlurmRun(folder, tars.tars, env)
    reference = folder / "reference"
    words = ["--list", str(run.tar_list), "--backend", "slow", "--cluster", "local", "--output-dir", str(reference)]
    done = subprocess.run(
        [sys.executable, "-m", "hpc.submit", *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    wanted = committed_bytes(reference)
    if len(wanted) != len(tars.tars) - len(tars.damaged):
        raise SystemExit(
            f"the undisturbed run: exit code {done.returncode}, {len(wanted)} files: {done.stdout}{done.stderr}"
        )
    return run, wanted


def verdicts(output: Path) -> dict[str, str]:
    """Tar -> why it cannot be committed, without the words that name paths and attempts."""
    run = Run(output)
    states = scan(run, run.listed())
    return {state.name: state.problem or "" for state in states if state.state != "committed"}


def at_time_limit(cluster: RealCluster, run: SlurmRun) -> int:
    """How many array tasks of the run worked for as long as they might, by Slurm's records."""
    words = ["-n", "-P", "-X", "-D", "-S", "now-1days", "-o", "State,ElapsedRaw,JobName"]
    ends = (row.split("|", 2) for row in cluster.run("sacct", *words).splitlines())
    margin, run_id = 60 * TIME_LIMIT_MIN * 0.9, Run(run.output).read_state().run_id
    worked = ("COMPLETED", "FAILED", "TIMEOUT")
    return sum(state in worked and int(seconds) >= margin for state, seconds, name in ends if run_id in name)


def keep_run(output: Path, cluster_folder: Path, target: Path) -> None:
    """Copy a failed run with Slurm's logs, to look for the reason."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(output, target, symlinks=True)
    shutil.copytree(cluster_folder / "log", target / "slurm")


def judge(soaking: Soak, run: SlurmRun, reference: Mapping[str, bytes], folder: Path) -> Ended:
    """How the run ended, beside the undisturbed one."""
    found, told, expected = committed_bytes(run.output), verdicts(run.output), verdicts(folder / "reference")
    return Ended(
        lost={name.removesuffix(".jsonl"): count for name, count in bytes_lost(reference, found).items()},
        verdicts=told,
        wrong_verdicts={name: told.get(name, "") for name in expected | told if told.get(name) != expected.get(name)},
        time_limits=at_time_limit(soaking.cluster, run),
        exit_code=soaking.code,
    )


def soak(
    folder: Path,
    cluster: RealCluster,
    *,
    seed: int,
    seconds: float,
    tars: int,
    every_s: float,
    kinds: Mapping[str, Kind] = KINDS,
) -> Result:
    """Try faults for so many seconds, let the run come to its end, and judge it.

    Where this process may mount no small disk, or the mount would outlive it, the disk is never full.
    """
    print(f"seed {seed}: {tars} tars, {seconds / 60:g} min of faults, one in {every_s:g} s", flush=True)
    data = make_tars(folder / "in", seed, tars, CLIPS)
    run, reference = start_run(folder, cluster, data)
    if not mount_small_disk(run.output, 2 * sum(map(len, reference.values())) + SMALLEST_DISK):
        print("the disk is never full: this process may not mount a small one", flush=True)
        kinds = {kind: each for kind, each in kinds.items() if kind != DISK_FULL}
    pause = BUSY_SHARE * seconds * WORKERS / data.clips
    print(f"{data.clips} clips, {data.bad_clips} bad, {len(data.damaged)} tars damaged, {pause:.2f} s a clip", flush=True)
    run.submit("--tars-per-gpu", TARS_PER_TASK, "--time", TIME_LIMIT_MIN, pause=pause)
    soaking = Soak(Lab(cluster, run), data.damaged)
    soaking.faults(plan_faults(seed, seconds, every_s=every_s, kinds=kinds), seconds)
    soaking.finish()
    ended = judge(soaking, run, reference, folder)
    return Result(
        seed=seed,
        seconds=seconds,
        finished_s=round(soaking.finished_s, 1),
        tars=tars,
        clips=data.clips,
        submissions=len(run.submissions()),
        rounds=dict(soaking.codes),
        tried=soaking.tried,
        ended=ended,
        words=soaking.words,
        rows=rows_of(kinds, soaking.tried, ended),
    )


def soak_and_tell(folder: Path, cluster: RealCluster, out: Path, given: argparse.Namespace) -> int:
    """Print the table and write it; a run that did not come out well is kept. Returns the exit code."""
    output = folder / "tokens"
    with ExitStack() as ends:
        ends.callback(subprocess.run, ["umount", "--lazy", str(output)], capture_output=True, check=False)
        keep = ends.enter_context(ExitStack())  # ends before the disk does
        keep.callback(keep_run, output, cluster.folder, out.with_suffix(".run"))
        result = soak(folder, cluster, seed=given.seed, seconds=60 * given.minutes, tars=given.tars, every_s=given.every)
        if result.well:
            keep.pop_all()
    print(as_text(result))
    out.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    print(f"the same in {out}" + ("" if result.well else f", and the run in {out.with_suffix('.run')}"))
    return 0 if result.well else 1


def main() -> int:
    parser = command_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="of faults; the run's end comes after them")
    parser.add_argument("--tars", type=int, default=400)
    parser.add_argument("--every", type=float, default=6.0, help="seconds between faults, on average")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of data and faults")
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    given = parser.parse_args()
    if missing := missing_prerequisites():
        print(f"a soak needs {', '.join(missing)}; as root: apt-get install {PACKAGES}", file=sys.stderr)
        return 2
    enter_own_mounts()
    cluster_folder = Path(f"/tmp/slurm-soak-{os.getpid()}")  # short, for its sockets
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        RealCluster(cluster_folder, free_ports(FIRST_PORT)) as cluster,
    ):
        return soak_and_tell(Path(name), cluster, given.out.absolute(), given)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s in all", flush=True)
    sys.exit(code)
