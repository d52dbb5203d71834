"""Runs boson-multimodal's own, unmodified decode on the decode part of a checkpoint; a script, so that its imports stay out.

Usage: boson_decode.py MODEL_DIR CODES.npz WAVES.npz. boson's constructor fixes the widths of the whole codec; its decoder
and quantizer are made here in the widths of the file, and its `decode` is given these.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np


def main(model_dir: str, codes_path: str, waves_path: str) -> None:
    warnings.simplefilter("ignore")
    import torch
    from boson_multimodal.audio_processing import higgs_audio_tokenizer as boson

    config = json.loads((Path(model_dir) / "config.json").read_text())
    state = torch.load(Path(model_dir) / "model.pth", weights_only=True)
    acoustic, both = state["fc_post2.weight"].shape
    parts = {
        "decoder_2": boson.dac2.Decoder(acoustic, state["decoder_2.model.0.bias"].shape[0], config["ratios"]),
        "fc_post2": torch.nn.Linear(both, acoustic),
        "quantizer": boson.ResidualVectorQuantizer(
            dimension=both, codebook_dim=config["codebook_dim"], n_q=config["n_q"], bins=config["bins"]
        ),
    }
    for name, part in parts.items():
        part.load_state_dict(
            {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}, strict=True
        )
        part.eval()
    tokenizer = SimpleNamespace(device="cpu", quantizer_type="RVQ", **parts)
    with np.load(codes_path) as codes, torch.inference_mode():
        grids = {name: torch.from_numpy(codes[name].astype(np.int64))[None] for name in codes.files}
        waves = {name: boson.HiggsAudioTokenizer.decode(tokenizer, grid)[0, 0] for name, grid in grids.items()}
    np.savez(waves_path, **waves)


if __name__ == "__main__":
    main(*sys.argv[1:])
