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
from contextlib import ExitStack
from pathlib import Path

import msgspec

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # for `support`

from support.real_cluster import PACKAGES, RealCluster, free_ports, missing_prerequisites
from support.runs import committed_bytes, slow_backend
from support.slurm_runs import SlurmRun

from benchmarks.soak_data import SoakTars, make_tars
from benchmarks.soak_faults import Lab
from benchmarks.soak_plan import DISK_FULL, KINDS, plan_faults
from benchmarks.soak_report import Ended, bytes_lost, rows_of, table
from benchmarks.soak_rounds import Soak
from hpc.progress import scan
from hpc.run import Run

__all__ = ["main", "soak"]

ROOT = Path(__file__).resolve().parent.parent
FIRST_PORT = 19300
CLIPS = 10
TARS_PER_TASK = 3
WORKERS = 16
BUSY_SHARE = 0.5
"""Of the soak's time, what the work would take all workers if nothing broke."""
TIME_LIMIT_MIN = 1
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
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tar2tokens-soak", str(folder)]
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


def at_time_limit(cluster: RealCluster) -> int:
    """How many array tasks worked for as long as they might, by Slurm's records."""
    rows = cluster.run("sacct", "-n", "-P", "-X", "-D", "-S", "now-1days", "-o", "State,ElapsedRaw").splitlines()
    margin = 60 * TIME_LIMIT_MIN * 0.9
    ends = (row.split("|") for row in rows)
    return sum(state in ("COMPLETED", "FAILED", "TIMEOUT") and int(seconds) >= margin for state, seconds in ends)


def keep_run(output: Path, cluster_folder: Path, target: Path) -> None:
    """Copy a run that did not come out well, with Slurm's logs, for whoever looks for the reason."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(output, target, symlinks=True)
    shutil.copytree(cluster_folder / "log", target / "slurm")


def soak(folder: Path, *, seed: int, seconds: float, tars: int, every_s: float, out: Path) -> int:
    """Try faults for so many seconds, let the run come to its end, and judge it. Returns the exit code."""
    print(f"seed {seed}: {tars} tars, {seconds / 60:g} min of faults, one in {every_s:g} s", flush=True)
    data = make_tars(folder / "in", seed, tars, CLIPS)
    cluster_folder = Path(f"/tmp/slurm-soak-{os.getpid()}")  # short, for its sockets
    with ExitStack() as ends:
        cluster = ends.enter_context(RealCluster(cluster_folder, free_ports(FIRST_PORT)))
        run, reference = start_run(folder, cluster, data)
        room = 2 * sum(map(len, reference.values())) + (64 << 20)
        disk = mount_small_disk(run.output, room)
        if disk:
            ends.callback(subprocess.run, ["umount", "--lazy", str(run.output)], check=False)
        else:
            print("the disk is never full: this process may not mount a small one", flush=True)
        keep = ends.enter_context(ExitStack())  # ends before all others
        keep.callback(keep_run, run.output, cluster_folder, out.with_suffix(".run"))
        pause = BUSY_SHARE * seconds * WORKERS / data.clips
        print(
            f"{data.clips} clips, {data.bad_clips} bad, {len(data.damaged)} tars damaged, {pause:.2f} s a clip", flush=True
        )
        run.submit("--tars-per-gpu", TARS_PER_TASK, "--time", TIME_LIMIT_MIN, pause=pause)
        soaking = Soak(Lab(cluster, run), data.damaged)
        kinds = {kind: KINDS[kind] for kind in KINDS if disk or kind != DISK_FULL}
        soaking.faults(plan_faults(seed, seconds, every_s=every_s, kinds=kinds), seconds)
        soaking.finish()
        found = committed_bytes(run.output)
        told, expected = verdicts(run.output), verdicts(folder / "reference")
        ended = Ended(
            lost={name.removesuffix(".jsonl"): count for name, count in bytes_lost(reference, found).items()},
            verdicts=told,
            wrong_verdicts={name: told.get(name, "") for name in expected | told if told.get(name) != expected.get(name)},
            time_limits=at_time_limit(cluster),
            exit_code=soaking.code,
        )
        result = {
            "seed": seed,
            "seconds": seconds,
            "finished_s": round(soaking.finished_s, 1),
            "tars": tars,
            "clips": data.clips,
            "lines_committed": sum(content.count(b"\n") for content in found.values()),
            "submissions": len(run.submissions()),
            "rounds": soaking.codes,
            "left_over": sorted(path.name for path in run.output.iterdir() if not path.name.endswith(".jsonl"))[:50],
            "tried": soaking.tried,
            "ended": ended,
            "words": soaking.words,
        }
        rows = rows_of(KINDS, soaking.tried, ended)
        well = not ended.lost and not ended.wrong_verdicts and not any(one.person for one in soaking.tried)
        well = well and soaking.code in (0, 3)
        if well:
            keep.pop_all()
    print(table(rows))
    print(f"{len(found)} of {tars} tars committed, {len(told)} with a verdict; hpc.resume ended with {ended.exit_code}")
    for one in soaking.tried:
        if one.person:
            print(f"a person was needed at {one.at_s:.0f} s, after: {one.kind} ({one.what}): {one.person}")
    for name, count in ended.lost.items():
        print(f"{name}: {count} bytes are not those of the undisturbed run")
    for name, words in ended.wrong_verdicts.items():
        print(f"{name}: another verdict than the undisturbed run's: {words or 'committed'}")
    out.write_bytes(msgspec.json.format(msgspec.json.encode({**result, "rows": rows})) + b"\n")
    print(f"the same in {out}" + ("" if well else f", and the run in {out.with_suffix('.run')}"))
    return 0 if well else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.soak")
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
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        return soak(
            Path(name),
            seed=given.seed,
            seconds=60 * given.minutes,
            tars=given.tars,
            every_s=given.every,
            out=given.out.absolute(),
        )


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s in all", flush=True)
    sys.exit(code)
