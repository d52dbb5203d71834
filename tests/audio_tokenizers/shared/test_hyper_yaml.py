"""shared/hyper_yaml.py: CosyVoice's config as values, without running anything that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from audio_tokenizers.errors import ModelFilesError
from audio_tokenizers.shared.hyper_yaml import read_hyper_yaml

TEXT = """\
__set_seed: !apply:random.seed [1986]
width: 16
llm: !new:cosyvoice.llm.llm.TransformerLM
    size: !ref <width>
    rate: 0.1
    llm: !new:cosyvoice.transformer.encoder.TransformerEncoder
        input_size: !ref <width>
        input_layer: 'linear_legacy'
        unknown: !ref <nowhere>
pipeline: [!ref <width>]
"""


def test_values_of_all_levels(tmp_path: Path) -> None:
    """References become values, mappings stay mappings, and each entry's tag is known by its dotted keys."""
    path = tmp_path / "cosyvoice.yaml"
    path.write_text(TEXT)
    config, tags = read_hyper_yaml(path, "what is it?")
    inner = config.part("llm").part("llm")
    assert (config.positive("width"), inner.positive("input_size"), inner.inside) == (16, 16, "llm.llm")
    assert config.part("llm").number("rate") == 0.1
    assert inner.values["input_layer"] == "linear_legacy"
    assert inner.values["unknown"] == "!ref <nowhere>"
    assert tags["llm.llm"] == "!new:cosyvoice.transformer.encoder.TransformerEncoder"
    with pytest.raises(ModelFilesError, match=r"'rows' in llm\.llm, found no 'rows': what is it\?"):
        inner.positive("rows")


@pytest.mark.parametrize("text", [b"a: [1", b"a: \xff", pytest.param(b"a: " + b"[" * 2000, marks=pytest.mark.slow)])
def test_what_is_no_yaml(tmp_path: Path, text: bytes) -> None:
    """A damaged file is one message that names it."""
    path = tmp_path / "cosyvoice.yaml"
    path.write_bytes(text)
    with pytest.raises(ModelFilesError, match=r"cosyvoice\.yaml: expected YAML, found something else"):
        read_hyper_yaml(path, "")
