"""early_imports.py: calls import nothing: a clip would be blamed where threads import at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.tiny_models import build_model

from audio_tokenizers.base import Scalar
from audio_tokenizers.shared.early_imports import import_early

ROOT = Path(__file__).resolve().parents[3]
HARMLESS = ("encodings.", "einops._torch_specific")
"""They import nothing that imports them, and the second only the device's thread."""

PROBE = """
import json, sys, threading
import numpy as np
import jobs.tokenize_tar
from audio_tokenizers.base import LaneShape, hear
from jobs.spec import make_spec
from jobs.worker import load_backend

name, options = sys.argv[1], json.loads(sys.argv[2])
backend = load_backend(make_spec(name, device="cpu", options=options), "cpu")
loaded = set(sys.modules)

def call():
    info = backend.info
    wave = np.sin(np.arange(48000, dtype=np.float32))
    if info.kind == "clips":
        backend.resample(wave, info.sample_rate)
        items = [hear(backend, wave, 44100, "words")]
        backend.encode_clips(items)
    else:
        items = [wave]
        backend.encode(items)
    if info.batching == "lanes":
        hops = -(-len(getattr(items[0], "wave", items[0])) // info.hop_length)
        backend.encode_lanes(items, LaneShape(2, hops * info.hop_length))()
    done.append(True)

done = []
thread = threading.Thread(target=call)
thread.start()
thread.join()
print(json.dumps({"done": done, "imported": sorted(set(sys.modules) - loaded)}))
"""
CASES: list[tuple[str, dict[str, Scalar]]] = [
    ("mulaw", {}),
    ("higgs", {"lanes": 2}),
    ("step_audio", {"trim": True, "dither": 1.0}),
    ("cosyvoice_s3", {}),
    ("cosyvoice_s3", {"engine": "torch"}),
    ("bicodec", {"lanes": 2}),
    ("mimi", {"lanes": 2}),
    ("xcodec", {}),
    ("whisper_features", {"layer": 1, "lanes": 2}),
    ("cosyvoice_text", {}),
    ("taste", {"whisper_features.layer": 1, "whisper_features.lanes": 2}),
]


@pytest.mark.parametrize(("backend", "options"), CASES, ids=lambda part: part if isinstance(part, str) else "-".join(part))
def test_calls_import_nothing(backend: str, options: dict[str, Scalar], tmp_path: Path) -> None:
    """Whatever the options: a module that a thread imports may be half made when another one needs it."""
    arguments = build_model(backend, tmp_path)
    if arguments:
        options = {**options, "model_path": arguments[1]}
    ended = subprocess.run(
        [sys.executable, "-c", PROBE, backend, json.dumps(options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["done"], ended.stderr
    assert [module for module in told["imported"] if not module.startswith(HARMLESS)] == []


def test_a_missing_module_is_named() -> None:
    """In the words of Python, which the command shows."""
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_early("json", "no_such_module")
