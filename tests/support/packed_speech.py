"""Pack examples/speech into two small tars, one of them compressed: what `make demo` tokenizes.

python examples/pack_speech.py OUTPUT_DIR
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

SPEECH = Path(__file__).parent / "speech"
FIRST_TAR_CLIPS = 3


def main(output_dir: Path) -> None:
    """Write speech-000.tar and speech-001.tar.gz."""
    output_dir.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in SPEECH.iterdir() if path.name != "README.md")
    clips = sorted({path.stem for path in files})
    shards = {"speech-000.tar": clips[:FIRST_TAR_CLIPS], "speech-001.tar.gz": clips[FIRST_TAR_CLIPS:]}
    for name, members in shards.items():
        with tarfile.open(output_dir / name, "w:gz" if name.endswith(".gz") else "w") as tar:
            for path in files:
                if path.stem in members:
                    tar.add(path, arcname=path.name)
        print(f"{output_dir / name}: {', '.join(members)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
