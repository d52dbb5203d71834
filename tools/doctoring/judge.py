"""Pure: facts about files and hosts -> findings with advice. judge_slurm.py does the same for Slurm."""

from __future__ import annotations

from collections.abc import Sequence

from audio_tokenizers.shared.command_names import called
from audio_tokenizers.shared.wording import counted, size_words
from jobs.claims import SIGN_OF_LIFE_SECONDS, STALE_SECONDS
from tools.common.findings import Finding, fault, fine, warning
from tools.doctoring.folder_probe import Exclusive, Flush, Replacing, Room, Signs
from tools.doctoring.host_probe import SHARED_MEMORY, Driver, Host, Tars, Torch, Weights
from tools.doctoring.quota import Quota

__all__ = [
    "OTHER_FOLDER",
    "judge_exclusive",
    "judge_fsync",
    "judge_gpus",
    "judge_host",
    "judge_link",
    "judge_mps",
    "judge_quotas",
    "judge_rename",
    "judge_room",
    "judge_signs",
    "judge_tars",
    "judge_weights",
]

MB, GB = 10**6, 10**9
LEAST_ROOM, LITTLE_ROOM = 100 * MB, 10 * GB
FILES_PER_TAR = 6
"""Committed file, manifest, attempt, claim, and two temporary ones."""
FILES_BESIDE = 1000
"""Plans, reports and logs."""
SLOW_FLUSH_S = 1.0
"""Workers flush every two seconds."""
CLOCK_S = 60.0
FEW_OPEN_FILES, TOO_FEW_OPEN_FILES = 1024, 128
LITTLE_SHARE = 0.1
LITTLE_TEMPORARY, LITTLE_SHARED = GB, 64 * MB
OTHER_FOLDER = "choose an --output-dir on another file system (NFS, Lustre, GPFS, CephFS and local disks do)"
LOST_AT_REBOOT = ("tmpfs", "ramfs", "devtmpfs")
ONE_HOST = ("tmpfs", "ramfs", "devtmpfs", "ext4", "ext3", "ext2", "xfs", "btrfs", "overlay", "zfs")


def judge_exclusive(facts: Exclusive) -> Finding:
    """Exactly one of several writers must succeed in creating a file."""
    return _judge_winners("exclusive create", facts, "two tasks could take the same file for theirs")


def judge_link(facts: Exclusive) -> Finding:
    """The same for linked files: claims."""
    return _judge_winners("hard link", facts, "two workers could own one tar")


def _judge_winners(check: str, facts: Exclusive, danger: str) -> Finding:
    if facts.most_winners == facts.fewest_winners == 1 and facts.refused:
        return fine(check, "of several that create one file at once, exactly one succeeds")
    if facts.most_winners > 1 or not facts.refused:
        found = f"of several that create one file at once, up to {facts.most_winners} succeed" + (
            "" if facts.refused else ", and a file that exists is created again"
        )
        return fault(check, f"{found}: {danger}", OTHER_FOLDER)
    return fault(check, "of several that create one file at once, none succeeds", OTHER_FOLDER)


def judge_rename(facts: Replacing) -> Finding:
    """A file that is replaced must be either the old or the new one at any moment."""
    if not facts.missing and not facts.torn:
        return fine("rename", f"replaces a file in one step: {facts.reads} reads at the same time found one version, whole")
    found = f"{facts.reads} reads of a file that was replaced: {facts.missing} found none, {facts.torn} a mixture"
    return fault("rename", found, OTHER_FOLDER)


def judge_fsync(facts: Flush) -> Finding:
    """Flushes must work, and be short compared with the two seconds between them."""
    took = f"a small file is flushed in {1000 * facts.file_s:.0f} ms"
    if facts.file_s > SLOW_FLUSH_S:
        advice = "expect slow commits; a scratch file system is made for this, a home directory often is not"
        return warning("fsync", took, advice)
    if facts.folder_error:
        return fine(
            "fsync", f"{took}; folders cannot be flushed ({facts.folder_error}), which network file systems need not"
        )
    return fine("fsync", took)


def judge_signs(facts: Signs) -> Finding:
    """A claim that was just touched must look fresh, by the file system's clock."""
    if facts.silence_s > SIGN_OF_LIFE_SECONDS:
        found = f"a file that was touched just now looks untouched for {facts.silence_s:.0f} s"
        advice = (
            f"claims are void after {STALE_SECONDS:.0f} s without a touch: living workers could lose theirs: {OTHER_FOLDER}"
        )
        return fault("signs of life", found, advice)
    side = "ahead of" if facts.clock_ahead_s > 0 else "behind"
    clock = f"the file system's clock is {abs(facts.clock_ahead_s):.1f} s {side} this host's"
    if abs(facts.clock_ahead_s) > CLOCK_S:
        return warning("signs of life", clock, "have the clocks set (NTP): tars change and jobs end by their hosts' clocks")
    return fine("signs of life", f"a touch shows at once; {clock}")


def judge_room(facts: Room, tars: int, *, shared: bool) -> list[Finding]:
    """Room for the bytes and files of a run of `tars` tars. `shared`: other hosts must see them."""
    where = f" of {size_words(facts.total_bytes)}" + (f" ({facts.kind})" if facts.kind else "")
    free = f"{size_words(facts.free_bytes)} free{where}"
    found = []
    if facts.free_bytes < LEAST_ROOM:
        found.append(fault("room", free, "make room, or choose another --output-dir"))
    elif facts.free_bytes < LITTLE_ROOM:
        advice = "is it enough? An hour of speech takes about 0.5 MB per codebook at 25 frames a second"
        found.append(warning("room", free, advice))
    else:
        found.append(fine("room", free))
    if facts.free_files is not None:
        wanted = FILES_PER_TAR * tars + FILES_BESIDE
        words = f"{facts.free_files:,} files may be made" + (
            f"; a run of {counted(tars, 'tar')} makes some {wanted:,}" if tars else ""
        )
        if facts.free_files < wanted:
            found.append(fault("inodes", words, "remove small files, ask for more, or choose another --output-dir"))
        else:
            found.append(fine("inodes", words))
    if facts.kind in LOST_AT_REBOOT:
        found.append(warning("file system", f"{facts.kind}: what is there is gone after a reboot", "copy results elsewhere"))
    elif shared and facts.kind in ONE_HOST:
        advice = f"nodes must see the output directory; {called('tools.doctor')} asks some where it can"
        found.append(warning("file system", f"{facts.kind}: mostly a disk of one host", advice))
    return found


def judge_quotas(quotas: Sequence[Quota]) -> list[Finding]:
    """What the user's quota leaves, in bytes and files; no finding without a limit."""
    found = []
    for quota in quotas:
        if quota.limit_bytes > 0:
            words = f"{quota.place}: {size_words(quota.used_bytes)} of {size_words(quota.limit_bytes)} used"
            found.append(_judge_left(words, quota.limit_bytes - quota.used_bytes, quota.limit_bytes, LEAST_ROOM))
        if quota.limit_files > 0:
            words = f"{quota.place}: {quota.used_files:,} of {quota.limit_files:,} files"
            found.append(_judge_left(words, quota.limit_files - quota.used_files, quota.limit_files, FILES_BESIDE))
    return found


def _judge_left(words: str, left: int, limit: int, least: int) -> Finding:
    if left <= least:
        return fault("quota", words, "make room, or ask for more")
    if left < LITTLE_SHARE * limit:
        return warning("quota", words, "make room before a long run")
    return fine("quota", words)


def judge_host(facts: Host, node: str = "") -> list[Finding]:
    """Limits and scratch space of one host."""
    at = f" on {node}" if node else ""
    found = [fine("python", f"{facts.python}, {facts.cores} cores{at}")]
    limit = "no limit" if facts.open_files < 0 else f"{facts.open_files:,}"
    if 0 <= facts.open_files < FEW_OPEN_FILES:
        make = fault if facts.open_files < TOO_FEW_OPEN_FILES else warning
        found.append(make("open files", f"{limit}{at}", "ulimit -n 4096, in your shell and as a setup line of cluster.yaml"))
    else:
        found.append(fine("open files", f"{limit}{at}"))
    if facts.temporary_free is None:
        found.append(fault("TMPDIR", f"{facts.temporary}{at}: nothing can be written", "set TMPDIR to a folder with room"))
    elif facts.temporary_free < LITTLE_TEMPORARY:
        words = f"{facts.temporary}{at}: {size_words(facts.temporary_free)} free"
        found.append(warning("TMPDIR", words, "make room, or set TMPDIR to a folder with more"))
    else:
        found.append(fine("TMPDIR", f"{facts.temporary}{at}: {size_words(facts.temporary_free)} free"))
    if facts.shared_free is not None and facts.shared_free < LITTLE_SHARED:
        words = f"{SHARED_MEMORY}{at}: {size_words(facts.shared_free)} free"
        found.append(warning("shared memory", words, "a container needs --shm-size; data loaders with workers need it"))
    elif facts.shared_free is not None:
        found.append(fine("shared memory", f"{SHARED_MEMORY}{at}: {size_words(facts.shared_free)} free"))
    return found


def judge_gpus(driver: Driver, torch: Torch | None, *, wanted: bool, node: str = "") -> list[Finding]:
    """Driver and torch. `wanted`: the run would use GPUs of this host."""
    at = f" on {node}" if node else ""
    if not driver.gpus:
        words = f"none{at}: {driver.error or 'nvidia-smi lists none'}"
        if not wanted:
            return [fine("GPUs", words)]
        return [fault("GPUs", words, "ask for nodes with GPUs (--gpus-per-node, --partition), or give --device cpu")]
    names = ", ".join(sorted(set(driver.gpus)))
    found = [fine("GPUs", f"{len(driver.gpus)}{at}: {names}; driver {driver.version}, CUDA up to {driver.cuda or '?'}")]
    if torch is None:
        return found
    make = fault if wanted else warning
    if not torch.installed:
        found.append(make("torch", f"not installed{at}", "pip install -e '.[BACKEND]'"))
    elif not torch.cuda:
        advice = "install a build with CUDA: https://pytorch.org/get-started/locally"
        found.append(make("torch", f"{torch.version}{at} is a build without CUDA", advice))
    elif torch.error or not torch.gpus:
        found.append(
            make("torch", f"{torch.version}{at} finds no GPU: {torch.error or 'none visible'}", _cure(driver, torch))
        )
    else:
        found.append(fine("torch", f"{torch.version}{at}, built for CUDA {torch.cuda}, sees {torch.gpus}"))
    return found


def judge_mps(torch: Torch) -> Finding:
    """Of torch on a Mac, whose GPU the run would use."""
    if not torch.installed:
        return fault("torch", "not installed", "pip install -e '.[BACKEND]'")
    if torch.mps == "available":
        return fine("torch", f"{torch.version} sees this Mac's GPU (MPS)")
    words = "sees no GPU" if torch.mps else "is a build without MPS"
    advice = "it needs Apple silicon and a macOS that this torch supports; --device cpu does without"
    return fault("torch", f"{torch.version or 'torch'} {words}{torch.error and f': {torch.error}'}", advice)


def _cure(driver: Driver, torch: Torch) -> str:
    if driver.cuda and _version(driver.cuda) < _version(torch.cuda)[:1]:
        major = driver.cuda.partition(".")[0]
        return (
            f"the driver knows CUDA {driver.cuda} at most: take a newer driver, or a torch that was built for CUDA {major}"
        )
    return "look at CUDA_VISIBLE_DEVICES, and whether the job was given a GPU"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def judge_weights(facts: Weights) -> Finding:
    """The backend's files."""
    if facts.error:
        return fault("weights", facts.error, f"{called('tools.fetch_model')} NAME fetches them; see docs/backends.md")
    return fine("weights", facts.checked)


def judge_tars(facts: Tars) -> Finding:
    """The tars of a list."""
    words = f"{counted(facts.tars, 'tar')}, {size_words(facts.bytes)}"
    if not facts.bad_count:
        return fine("tars", f"{words}, all readable here")
    shown = "; ".join(facts.bad)
    more = "; ..." if facts.bad_count > len(facts.bad) else ""
    found = f"{facts.bad_count:,} of {facts.tars:,} cannot be tokenized: {shown}{more}"
    return fault("tars", found, f"correct the list, or go on without them: {called('hpc.submit')} --skip-missing")
