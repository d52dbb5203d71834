"""What Linux alone has (/proc, some calls and error numbers) is used where it is there, and missed nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.runs import ROOT
from support.small_run import CLIPS, small_tar

WITHOUT_LINUX = """
import errno, fcntl, io, os, resource, select, signal

for module, names in {
    errno: "EREMOTEIO EKEYREJECTED EKEYEXPIRED ENOKEY ECOMM EBADFD ENOTUNIQ",
    fcntl: "F_SETPIPE_SZ F_GETPIPE_SZ",
    os: "sched_getaffinity memfd_create copy_file_range getxattr setxattr listxattr O_NOATIME O_PATH O_TMPFILE "
        "posix_fadvise posix_fallocate fdatasync pidfd_open sendfile",
    resource: "prlimit",
    select: "epoll",
    signal: "sigtimedwait sigwaitinfo SIGRTMIN",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


def without_proc(call):
    def answer(path=".", *args, **settings):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith("/proc"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
        return call(path, *args, **settings)
    return answer


for module, name in ((os, "stat"), (os, "open"), (os, "scandir"), (os, "listdir"), (os, "readlink"), (io, "open")):
    setattr(module, name, without_proc(getattr(module, name)))
"""
IMPORTS = """
import importlib, os, sys
from pathlib import Path
assert not Path("/proc").exists() and not hasattr(os, "sched_getaffinity")
for name, folder in (("hpc", "hpc"), ("jobs", "jobs"), ("tools", "tools"), ("tar2tokens", "tar2tokens")):
    for path in sorted(Path(sys.argv[1], folder).rglob("*.py")):
        parts = path.relative_to(Path(sys.argv[1], folder)).with_suffix("").parts
        if parts[-1] != "__main__" and "taste" not in parts:
            importlib.import_module(".".join((name, *(part for part in parts if part != "__init__"))))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """That of a process without what macOS lacks."""
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(WITHOUT_LINUX)
    path = os.pathsep.join(map(str, (site, ROOT, ROOT / "tokenizers")))
    return {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}


def run(environment: dict[str, str], folder: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_module_imports(environment: dict[str, str], tmp_path: Path) -> None:
    """No module takes a name from the standard library that macOS does not have."""
    run(environment, tmp_path, "-c", IMPORTS, str(ROOT))


@pytest.mark.slow
def test_a_run_on_this_machine(environment: dict[str, str], tmp_path: Path) -> None:
    """Planned, worked on by processes that ps shows, committed, checked."""
    tars = [small_tar(tmp_path / f"{name}.tar") for name in ("a", "b")]
    (tmp_path / "tars.txt").write_text("".join(f"{tar}\n" for tar in tars))
    words = ("--list", "tars.txt", "--backend", "mulaw", "--cluster", "local", "--workers", "2")
    assert "2 of 2 tars committed" in run(environment, tmp_path, "-m", "hpc.submit", *words)
    assert "2 files valid" in run(environment, tmp_path, "-m", "tools.check_progress", "--check-validity")
    lines = (tmp_path / "tokens" / "a.jsonl").read_text().splitlines()
    assert len([json.loads(line)["audio_file"] for line in lines]) == CLIPS
