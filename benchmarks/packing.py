"""How fast a solid 7z is packed, against 7-Zip alone unpacking it to a folder. python -m benchmarks.packing"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import SPEECH, alternate, report
from jobs.commands import command_parser

GOAL = 0.8
PAIRS, FRAMES, ROUNDS = 2000, 60_000, 5


def main() -> int:
    sys.path.insert(0, str(SPEECH.parents[1] / "tests"))
    from support.solid_7z import originals, seven_zip, write_solid_7z

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = folder / "voices.7z"
        write_solid_7z(archive, originals(PAIRS, FRAMES), folder / "files")
        shutil.rmtree(folder / "files")
        program = seven_zip()

        def unpack() -> None:
            shutil.rmtree(folder / "x", ignore_errors=True)
            command = [program, "x", "-mmt=on", "-bso0", "-bsp0", f"-o{folder / 'x'}", str(archive)]
            subprocess.run([*command, "-ir!*.wav", "-ir!*.lab"], check=True)

        def pack() -> None:
            shutil.rmtree(folder / "tars", ignore_errors=True)
            command = [sys.executable, "-m", "tools.pack", str(archive), "--output-dir", str(folder / "tars")]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        times = alternate({"7z x": unpack, "tools.pack": pack}, ROUNDS)
        size = sum(path.stat().st_size for path in (folder / "tars").glob("*.tar")) / 1e6
        best = ", ".join(f"{name} {min(seconds):.2f} s" for name, seconds in times.items())
        print(f"{size:.0f} MB of tars; best of {ROUNDS}: {best}")
    ratios = [alone / packed for alone, packed in zip(times["7z x"], times["tools.pack"], strict=True)]
    met = report("rate of packing a solid 7z of 2,000 pairs, of the rate of 7z x alone", ratios, GOAL)
    return 0 if met else 1


if __name__ == "__main__":
    command_parser(__doc__).parse_args()  # a word that it does not know begins nothing
    sys.exit(main())
