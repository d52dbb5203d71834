"""examples/speech in two small tars, one of them compressed."""

from __future__ import annotations

import tarfile
from pathlib import Path

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "speech"
FIRST_TAR_CLIPS = 3


def pack_speech(output_dir: Path) -> None:
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
