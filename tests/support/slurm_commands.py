"""Slurm's commands as small scripts: tests say what they answer, and see how they were called."""

from __future__ import annotations

from pathlib import Path

FAKE = """#!/bin/sh
me=${0##*/}; here=${0%/*}
printf '%s\\n' "$me $*" >> "$here/calls"  # in one piece: several may be called at once
if [ -s "$here/$me.only" ]; then
    case " $* " in *"$(cat "$here/$me.only")"*) ;; *) exit 0 ;; esac
fi
[ "$me" = sbatch ] && cat > "$here/script"
[ -f "$here/$me.out" ] && cat "$here/$me.out"
[ -f "$here/$me.err" ] && cat "$here/$me.err" >&2
[ -f "$here/$me.hangs" ] && exec sleep 60
exit "$(cat "$here/$me.code" 2>/dev/null || echo 0)"
"""


class SlurmCommands:
    """Slurm's commands as scripts that note how they were called, and answer as they are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo"):
            (folder / name).write_text(FAKE)
            (folder / name).chmod(0o755)
        self.environment = {"PATH": f"{folder}:/usr/bin:/bin"}

    def answer(
        self, name: str, out: str = "", err: str = "", code: int = 0, *, hangs: bool = False, only_with: str = ""
    ) -> None:
        """What a command answers; to calls without the word `only_with`, nothing."""
        for kind, content in (("out", out), ("err", err), ("code", str(code)), ("only", only_with)):
            (self.folder / f"{name}.{kind}").write_text(content)
        if hangs:
            (self.folder / f"{name}.hangs").touch()

    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []
