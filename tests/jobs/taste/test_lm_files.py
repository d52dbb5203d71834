"""jobs/taste/lm_files.py: sizes come from the file, and an encoder that computes something else is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.tiny_speech_lm import TINY, UNEQUAL, build_speech_lm, yaml_text

from audio_tokenizers.errors import ModelFilesError
from jobs.taste.lm_files import LmFiles, StackShape, open_language_model


def opened(folder: Path, *changes: tuple[str, str]) -> LmFiles:
    """The tiny model, its config changed."""
    text = yaml_text(TINY)
    for old, new in changes:
        assert old in text
        head, middle, tail = text.rpartition("    llm: !new")
        text = head + middle + tail.replace(old, new) if old in tail else text.replace(old, new)
    folder.mkdir(exist_ok=True)
    (folder / "cosyvoice.yaml").write_text(text)
    torch.save({}, folder / "llm.pt")
    return open_language_model(folder)


def test_every_size_is_the_file_s(tmp_path: Path) -> None:
    """References are followed, and widths that differ stay apart."""
    files = open_language_model(build_speech_lm(tmp_path / "model", UNEQUAL))
    assert files.stack == StackShape(14, 18, 3, 22, 3, 0.1, 0.1, 0.0)
    assert (files.text_width, files.text_rows, files.units, files.unit_rate) == (10, 41, 29, 50)


def test_the_rate_of_the_units(tmp_path: Path) -> None:
    """The flow model's section says it, or upstream's default is meant; without a flow model nothing is known."""
    assert opened(tmp_path, ("input_frame_rate: 50", "input_frame_rate: 25")).unit_rate == 25
    assert opened(tmp_path, ("input_frame_rate: 50", "output_size: 80")).unit_rate == 50
    assert opened(tmp_path, ("flow: ", "other: ")).unit_rate is None
    with pytest.raises(ModelFilesError, match=r"input_frame_rate of 25 or 50 in flow, found 40"):
        opened(tmp_path, ("input_frame_rate: 50", "input_frame_rate: 40"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("'linear_legacy'", "'linear'", "'input_layer' to be 'linear_legacy' in llm.llm, found 'linear'"),
        ("'rel_pos_espnet'", "'rel_pos'", "'pos_enc_layer_type' to be 'rel_pos_espnet' in llm.llm, found 'rel_pos'"),
        ("'rel_selfattn'", "'selfattn'", "'selfattention_layer_type' to be 'rel_selfattn' in llm.llm, found 'selfattn'"),
        ("static_chunk_size: 1", "static_chunk_size: 16", "'static_chunk_size' to be 1 in llm.llm, found 16"),
        ("static_chunk_size: 1", "key_bias: True", "'static_chunk_size' to be 1 in llm.llm, found no 'static_chunk_size'"),
        ("static_chunk_size: 1", "static_chunk_size: 1\n        macaron: 1", "only the options of CosyVoice's Transf"),
        ("attention_dropout_rate: 0.0", "attention_dropout_rate: 1.0", "'attention_dropout_rate' from 0 up to 1"),
        ("attention_heads: 2", "attention_heads: 3", "an even output_size that attention_heads divides"),
        (
            "input_size: !ref <llm_input_size>",
            "input_size: 12",
            "the same 'llm_input_size' as 'input_size' of llm.llm, which is 12",
        ),
        ("TransformerEncoder", "Qwen2Encoder", "llm.llm: !new:cosyvoice.transformer.encoder.TransformerEncoder"),
        ("llm.TransformerLM", "llm.Qwen2LM", "llm: !new:cosyvoice.llm.llm.TransformerLM"),
    ],
)
def test_what_computes_something_else_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """One message with the file, the key, and both values."""
    with pytest.raises(ModelFilesError) as caught:
        opened(tmp_path, (old, new))
    assert str(caught.value).startswith(f"{tmp_path}/cosyvoice.yaml: expected ")
    assert message in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    """The directory of another model is no directory of this one."""
    (tmp_path / "cosyvoice.yaml").write_text(yaml_text())
    with pytest.raises(ModelFilesError, match=r"llm\.pt"):
        open_language_model(tmp_path)
