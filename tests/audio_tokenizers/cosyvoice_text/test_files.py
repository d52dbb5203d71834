from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from support.tiny_cosyvoice_text import WIDTH, build_cosyvoice

from audio_tokenizers.cosyvoice_text.files import open_checkpoint
from audio_tokenizers.errors import ModelFilesError, UsageError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("cosyvoice")
    return {name: build_cosyvoice(base / name, name) for name in ("whisper", "cosyvoice")}


@pytest.fixture(params=["whisper", "cosyvoice"])
def model(request: pytest.FixtureRequest, built: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(built[request.param], tmp_path / "model"))


def edit(directory: Path, old: str, new: str) -> None:
    path = directory / "cosyvoice.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def refusal(directory: Path, tokenizer: str | None = None) -> str:
    with pytest.raises(ModelFilesError) as caught:
        open_checkpoint(str(directory), tokenizer)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_read_from_the_config(built: dict[str, Path]) -> None:
    """The tags of cosyvoice.yaml say which tokenizer and which sizes; nothing that they name is run."""
    for name, rows in (("whisper", 457 + 1609), ("cosyvoice", 457 + 1674)):
        found = open_checkpoint(str(built[name]), None)
        assert (found.vocabulary.name, found.languages) == (name, 100)
        assert (found.rows, found.width, found.vocabulary.size) == (rows, WIDTH, rows)
        assert (found.config.name, found.weights.name) == ("cosyvoice.yaml", "llm.pt")
        assert found.tokenizer.parent == built[name]


def test_the_tokenizer_is_taken_from_the_option_then_the_directory(built: dict[str, Path], tmp_path: Path) -> None:
    """A file that is given wins, so that a model's directory may stay as it was published."""
    given = Path(shutil.copy(built["whisper"] / "multilingual.tiktoken", tmp_path / "pairs.tiktoken"))
    assert open_checkpoint(str(built["whisper"]), str(given)).tokenizer == given
    for path, found in (("nowhere.tiktoken", "nothing"), (str(tmp_path), "a folder")):
        with pytest.raises(UsageError, match=f"tokenizer_path.*found {found}"):
            open_checkpoint(str(built["whisper"]), path)


def test_whispers_byte_pairs_come_with_openai_whisper(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CosyVoice-300M needs no file beside the published ones, if openai-whisper is installed; -25Hz always needs one."""
    pairs = next(model.glob("*.tiktoken"))
    pairs.unlink()
    if pairs.name == "multilingual.tiktoken":
        edit(model, f"text_token_size: {457 + 1609}", "text_token_size: 51866")
        found = open_checkpoint(str(model), None)
        assert found.tokenizer.parts[-3:] == ("whisper", "assets", "multilingual.tiktoken")
        assert found.vocabulary.size == 51866
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
        assert "install openai-whisper" in refusal(model)
    else:
        assert "cosyvoice/tokenizer/assets of github.com/FunAudioLLM/CosyVoice" in refusal(model)
    assert pairs.name in refusal(model)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("!new:cosyvoice.llm.llm.TransformerLM", "!new:cosyvoice.llm.llm.Qwen2LM", "CosyVoice 2 and 3 embed text with Qwen"),
        ("\nllm: ", "\nlanguage_model: ", "no 'llm'"),
        ("get_tokenizer: !name:", "get_tokenizer: !name:my.", "get_tokenizer"),
        ("multilingual: True", "multilingual: False", "multilingual"),
        ("allowed_special: 'all'", "allowed_special: 'none'", "'none'"),
        ("num_languages: 100", "num_languages: 0", "'num_languages'"),
        ("text_token_size: ", "text_token_size: -", "'text_token_size'"),
        ("text_token_size: ", "tokens: ", "'text_token_size'"),
        ("text_token_size: ", "text_token_size: 1", "do not belong together"),
        ("text_encoder_input_size: 8", "text_encoder_input_size: !ref <llm_input_size", "YAML"),
        ("text_encoder_input_size: 8", "size: 8", "'text_encoder_input_size'"),
        ("sample_rate: 22050", "sample_rate: [", "YAML"),
    ],
)
def test_a_foreign_config_is_refused(model: Path, old: str, new: str, expected: str) -> None:
    """What is another model, or was cut or edited into nonsense, says so before anything is loaded."""
    if "YAML" in expected and "ref" in new:
        new = "text_encoder_input_size: {"
    edit(model, old, new)
    message = refusal(model)
    assert expected in message
    assert str(model / "cosyvoice.yaml") in message


def test_the_byte_pairs_of_another_model_are_refused(built: dict[str, Path], tmp_path: Path) -> None:
    """Whisper's and CosyVoice's files look alike; taken for one another they would give numbers without meaning."""
    import whisper.tokenizer

    gpt2 = Path(whisper.tokenizer.__file__).parent / "assets" / "gpt2.tiktoken"
    message = refusal(built["whisper"], str(gpt2))
    assert "do not belong together" in message
    assert str(gpt2) in message


def test_rows_for_all_languages_may_outnumber_those_named(tmp_path: Path) -> None:
    """CosyVoice-300M-25Hz: its config names 100 languages, its embedding has rows for all 105 that the tokenizer knows."""
    directory = build_cosyvoice(tmp_path, "cosyvoice", rows=457 + 1674 + 5)
    found = open_checkpoint(str(directory), None)
    assert (found.rows, found.vocabulary.size) == (457 + 1679, 457 + 1674)
    edit(directory, f"text_token_size: {457 + 1679}", f"text_token_size: {457 + 1678}")
    assert "do not belong together" in refusal(directory)


@pytest.mark.parametrize("name", ["cosyvoice.yaml", "llm.pt"])
def test_a_missing_file_is_named_with_what_is_there(model: Path, name: str) -> None:
    """The usual slip is the parent directory or a half copy."""
    (model / name).unlink()
    message = refusal(model)
    assert str(model / name) in message
    assert ".tiktoken" in message


def test_a_later_model_is_named_as_such(model: Path) -> None:
    """CosyVoice2-0.5B has cosyvoice2.yaml: its directory is no half copy of a CosyVoice 1."""
    (model / "cosyvoice.yaml").rename(model / "cosyvoice2.yaml")
    assert "CosyVoice 2 and 3" in refusal(model)


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b"PK\x03\x04half", b"<html>"])
def test_weights_that_are_cut_or_none_are_refused(model: Path, content: bytes) -> None:
    """A git-lfs pointer, a cut download and an error page are one message each, when the run is planned."""
    (model / "llm.pt").write_bytes(content)
    assert str(model / "llm.pt") in refusal(model)


def test_a_hub_id_asks_for_two_files_alone(built: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A CosyVoice repository has vocoder, flow and exports too; what is in the local cache is not asked for again."""
    import huggingface_hub

    asked: list[tuple[bool, list[str]]] = []

    def snapshot(repo: str, *, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((local_files_only, allow_patterns))
        return str(built["whisper"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert open_checkpoint("FunAudioLLM/CosyVoice-300M", None).weights == built["whisper"] / "llm.pt"
    assert asked == [(True, ["cosyvoice.yaml"]), (True, ["cosyvoice.yaml", "llm.pt"])]
