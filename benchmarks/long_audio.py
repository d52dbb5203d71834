"""Peak memory of long clips: a 3-hour MP3 against a 1-hour one, through mu-law and through a tiny Higgs.

python -m benchmarks.long_audio [HOURS...]

Each run is a process of its own that tokenizes one tar of one clip. Its peak is what Linux counts as VmHWM, less what the
process held once the backend was loaded.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import soundfile

from benchmarks.common import speech
from jobs.commands import command_parser

ROOT = Path(__file__).resolve().parent.parent
HOURS = (1.0, 3.0)
SAMPLE_RATE = 16000
MOST_MB, MOST_GROWTH = 700, 1.10

CHILD = """
import json, sys
from pathlib import Path
from jobs.tar_paths import TarPaths
from jobs.spec import make_spec
from jobs.tokenize import tokenize_tar
from jobs.worker import load_backend

def status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024

tar, output, backend, model = sys.argv[1:]
spec = make_spec(backend, device="cpu", options={"model_path": model} if model else {})
loaded = load_backend(spec, "cpu")
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
result = tokenize_tar(Path(tar), TarPaths(Path(output), "long"), spec, loaded)
print(json.dumps({"above": status("VmHWM") - before, "base": before, "clips": result.manifest.clips,
                  "errors": result.manifest.errors, "hours": result.manifest.audio_seconds / 3600}))
"""


def make_tar(tar: Path, hours: float) -> None:
    """A tar with one MP3, written block by block."""
    minute = speech(SAMPLE_RATE, 60)
    mp3 = tar.with_suffix(".mp3")
    with soundfile.SoundFile(mp3, "w", SAMPLE_RATE, 1, format="MP3") as file:
        for _ in range(round(hours * 60)):
            file.write(minute)
    with tarfile.open(tar, "w") as out:
        member = tarfile.TarInfo("long.mp3")
        member.size = mp3.stat().st_size
        with mp3.open("rb") as data:
            out.addfile(member, io.BufferedReader(data))
    mp3.unlink()


def measure(tar: Path, output: Path, backend: str, model: str) -> dict[str, float]:
    """Tokenize in a fresh process; what it says of its memory."""
    command = [sys.executable, "-c", CHILD, str(tar), str(output), backend, model]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(hours: list[float]) -> int:
    sys.path.append(str(ROOT / "tests"))
    from support.tiny_higgs import build_transformers_layout

    met = True
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny_higgs"
        build_transformers_layout(model)
        tars = {h: Path(folder) / f"{h}.tar" for h in hours}
        for h, tar in tars.items():
            make_tar(tar, h)
        for backend, path in (("mulaw", ""), ("higgs", str(model))):
            peaks = {}
            for h, tar in tars.items():
                found = measure(tar, Path(folder) / f"{backend}-{h}", backend, path)
                if found["errors"] or round(found["hours"], 2) != h:
                    raise SystemExit(f"{backend}, {h:g} h: {found}")
                peaks[h] = found
                above, base = found["above"], found["base"]
                print(f"{backend}, {h:g} h of MP3: peak {above:.0f} MB above the {base:.0f} MB after loading")
            shortest, longest = (peaks[h]["above"] + peaks[h]["base"] for h in (hours[0], hours[-1]))
            ok = longest <= MOST_GROWTH * shortest and peaks[hours[-1]]["above"] <= MOST_MB
            print(f"{backend}: peak RSS {longest / shortest:.2f} of that of {hours[0]:g} h {'ok' if ok else 'BELOW GOAL'}")
            met = met and ok
    return 0 if met else 1


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("hours", nargs="*", type=float, default=list(HOURS), help="lengths of the MP3 files")
    sys.exit(main(parser.parse_args().hours))
