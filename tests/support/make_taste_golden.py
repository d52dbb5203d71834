"""Run CosyVoice's own language model on the tiny weights and store what it computes.

From the root of the repository, in its virtual environment, with hyperpyyaml installed beside it:

    PYTHONPATH=tests:tokenizers:. python -m support.make_taste_golden /path/to/CosyVoice

Made with github.com/FunAudioLLM/CosyVoice at ace7c47f41bbd303aa6bf1ea80e6f9fbd595cd40 and torch 2.13.0, on the CPU with one
thread, in float32. Its modules on this path run unmodified. Those that its class table imports beside them (flow, vocoder,
command line, ONNX) are stand-ins, since they need the whole TTS stack and compute nothing here.
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from support.tiny_speech_lm import TINY, UNEQUAL, Sizes, state_dict, yaml_text

GOLDEN = Path(__file__).parents[1] / "jobs" / "taste" / "golden" / "taste.npz"
CASES = {"tiny": TINY, "unequal": UNEQUAL}
STAND_INS = ("cosyvoice.flow.flow", "cosyvoice.hifigan.generator", "cosyvoice.cli.model", "cosyvoice.utils.onnx")
LENGTHS = (37, 12, 1)
UNIT_LENGTHS, TEXT_LENGTHS = (11, 4, 7), (5, 9, 2)


def stand_in(name: str) -> ModuleType:
    """A module that answers the name of any class with an empty one."""

    def answer(attribute: str) -> type:
        if not attribute[0].isupper():
            raise AttributeError(attribute)
        return type(attribute, (), {})

    module = ModuleType(name)
    module.__dict__.update(online_feature=False, onnx_path=None, __getattr__=answer)
    return module


def inputs(sizes: Sizes) -> dict[str, npt.NDArray[Any]]:
    """What the models are given, which the golden file holds too."""
    generator = np.random.Generator(np.random.PCG64(7))
    return {
        "x": generator.standard_normal((len(LENGTHS), max(LENGTHS), sizes.inputs)).astype(np.float32),
        "text": generator.integers(0, sizes.text_rows, (3, max(TEXT_LENGTHS))),
        "units": generator.integers(0, sizes.units, (3, max(UNIT_LENGTHS))),
        "embedding": generator.standard_normal((3, 192)).astype(np.float32),
    }


def compute(sizes: Sizes) -> dict[str, npt.NDArray[Any]]:
    """Upstream's stack, its decoding step by step, and its loss with the sequence that it was given."""
    import torch
    from hyperpyyaml import load_hyperpyyaml

    text = yaml_text(sizes).partition("flow:")[0].partition("__set_seed1")[2].partition("\n")[2]
    lm: Any = load_hyperpyyaml(StringIO(text))["llm"]
    lm.load_state_dict(state_dict(sizes), strict=True)
    lm.eval()
    given = inputs(sizes)
    x = torch.from_numpy(given["x"])
    found: dict[str, npt.NDArray[Any]] = dict(given)
    with torch.inference_mode():
        found["y"] = lm.llm(x, torch.tensor(LENGTHS, dtype=torch.int32))[0].numpy()
        empty = torch.zeros((0, 0, 0, 0))
        steps, cache, conv = [], empty, empty
        for place in range(LENGTHS[0]):
            y, cache, conv = lm.llm.forward_chunk(
                x[:1, place : place + 1], offset=place, required_cache_size=-1, att_cache=cache, cnn_cache=conv
            )
            steps.append(y)
        found["chunks"] = torch.cat(steps, 1).numpy()
        seen: dict[str, torch.Tensor] = {}
        lm.llm.register_forward_hook(lambda _module, arguments, result: seen.update(input=arguments[0], output=result[0]))
        batch = {
            "text_token": torch.from_numpy(given["text"]),
            "text_token_len": torch.tensor(TEXT_LENGTHS, dtype=torch.int32),
            "speech_token": torch.from_numpy(given["units"]),
            "speech_token_len": torch.tensor(UNIT_LENGTHS, dtype=torch.int32),
            "embedding": torch.from_numpy(given["embedding"]),
        }
        answer = lm(batch, torch.device("cpu"))
        found["loss"], found["accuracy"] = (np.array(answer[key].item(), np.float32) for key in ("loss", "acc"))
        found["sequence"] = seen["input"].numpy()
        found["logits"] = lm.llm_decoder(seen["output"]).numpy()
    return found


def main() -> None:
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, sys.argv[1])
    sys.modules.update({name: stand_in(name) for name in STAND_INS})
    golden: dict[str, Any] = {
        f"{name}_{key}": value for name, sizes in CASES.items() for key, value in compute(sizes).items()
    }
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(GOLDEN, **golden)
    print({key: value.shape for key, value in golden.items()})


if __name__ == "__main__":
    main()
