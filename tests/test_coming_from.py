"""docs/coming-from.md: what it says of five older tools is there, in full, and works: commands, options, files and keys."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import re
import shlex
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import typer.main
from support.committed_runs import BICODEC_FIELDS, PAIR_FIELDS, lines_of, record
from support.runs import ROOT, call
from support.small_run import small_tar

import tar2tokens
from audio_tokenizers.registry import complete_options, get_factory
from audio_tokenizers.shared.yaml_loading import load_yaml
from audio_tokenizers.step_audio.options import check_options, fields_of
from audio_tokenizers.step_audio.tokenizer import StepAudioTokenizer
from jobs.commands import command_app
from jobs.recipe_options import parse_settings
from jobs.records import TokenRecord
from jobs.spec import load_preset
from jobs.taste.settings import DEFAULTS, Settings
from tools.merging.shapes import NEEDED, Shape, fitting_shapes, shape_line

PAGE = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
SPAN = re.compile(r"`([^`]+)`")
MODULE = re.compile(r"(?:python -m )?((?:hpc|jobs|tools)\.\w+)")
HIGGS, BICODEC, PAIRS, STEP_AUDIO, TASTE = range(5)
"""Sections, in the page's order."""

INVENTORY: dict[int, str] = {
    HIGGS: """
        tokenize_audio.py generate_tar_list.py check_progress.py run_tokenize_4gpu.sh submit_and_resume.sh huggingface-cli
        --model-path --input-tar --output-dir --gpu-id --sample-rate --max-tokens-per-fragment --num-tokens-overlap
        --extensions --log-file --verbose --skip-existing --force
        --input-dir --output-file --pattern --prefix --start --end
        --tar-list --remaining-output --completed-output --check-validity
        remaining_tar_files.txt invalid_tar_files.txt reprocess.txt .jsonl.partial logs/ #SBATCH sbatch squeue ✓ ◐ ○
        tar_file audio_file num_samples sample_rate tokens token_shape error
    """,
    BICODEC: """
        extract_tar_tokens.py Spark-TTS-0.5B ModelScope --input_dir --output_dir --model_dir --num_proc --from_index
        --to_index {input_dir_name}_{process_id}.jsonl gpu_id 1000 100
        language text global_tokens semantic_tokens
    """,
    PAIRS: """
        prepare_genshin_pairs.py 7z -ir!*.lab .metadata_never_index GB18030 BOM STEP_AUDIO_EDITX_ROOT
        --no-extract --extract-dir --out --exclude-placeholder --funasr-device --torch-threads --trim --max-duration
        --shard-count --shard-index --no-done --resume RESUME=1 RESUME=0 PROCS=6 TORCH_THREADS .ok .done clean progress
        id text tokens rel_wav rel_lab sr
    """,
    STEP_AUDIO: """
        StepAudioTokenizer(encoder_path) tokenizer(audio,sr) preprocess_wav wav2token get_vq02_code get_vq06_code
        session_id is_final vq02_sessions enable_trim energy_norm merge_vq0206_to_token_str dump_label kmean_cluster
        vq02_ori vq06_ori 65536 1024 CUDAExecutionProvider 480
    """,
    TASTE: """
        setup_cosyvoice.py --deep-verify utt2text_and_feature.py s3.sh model_code.py --jsonl --model_dir --output_text
        --output_whisper --subset_ratio audio_path text train_text_emb.pt train_whisper_feats.pt train_utt2s3.pt
        TRAIN_UTT2_S3_PATH TRAIN_UTT2_TEXT_EMB_PATH TRAIN_UTT2_WHISPER_PATH TEST_UTT2_S3_PATH TEST_UTT2_TEXT_EMB_PATH
        TEST_UTT2_WHISPER_PATH COSYVOICE_MODEL_DIR BATCH_SIZE LR NUM_EPOCHS freeze_llm loss_curve.png 90
    """,
}
"""All commands, flags, files and keys that the documents of the five tools name, by section."""

OTHERWISE: dict[str, Any] = {
    "tokenizer": StepAudioTokenizer.__call__,
    "StepAudioTokenizer": StepAudioTokenizer.__init__,
    "audio_": None,
    "vq02_sessions": None,
}
"""What the row of the class names that is no method of that name."""


class Row(NamedTuple):
    """A row of a table, and its section."""

    section: int
    old: str
    new: str


def sections() -> list[str]:
    _, *found = re.split(r"^## .+$", PAGE, flags=re.MULTILINE)
    titles = re.findall(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return [f"{title}\n{text}" for title, text in zip(titles, found, strict=True)]


def rows() -> list[Row]:
    return [
        Row(number, *cells)
        for number, text in enumerate(sections())
        for line in text.splitlines()
        if line.startswith("| ")
        and line != "| old | new |"
        and len(cells := [c.strip() for c in line[1:-1].split(" | ")]) == 2
    ]


def blocks() -> list[str]:
    """Commands of the page's code blocks, without comments."""
    found = re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [line.partition("   #")[0].strip() for block in found for line in block.splitlines()]


@cache
def command_of(module: str) -> Any:
    function = getattr(importlib.import_module(module), module.rpartition(".")[2])
    return typer.main.get_command(command_app(function, ExitStack()))


def parse(module: str, words: list[str]) -> None:
    """Parse words by the command itself; options that it needs and the page leaves out get any value."""
    command = command_of(module)
    for _ in range(4):
        try:
            command.make_context(module, list(words))
        except Exception as error:
            missing = getattr(error, "param", None)
            if type(error).__name__ != "MissingParameter" or missing is None:
                raise
            words = [*words, *([missing.opts[0]] if missing.param_type_name == "option" else []), "x"]
        else:
            break
    else:
        pytest.fail(f"{module} {words}: too much is missing")
    settings = parse_settings([word for option, word in itertools.pairwise(words) if option == "--set"])
    if settings:
        preset = load_preset(words[words.index("--backend") + 1])
        complete_options(get_factory(preset.backend), {**preset.options, **settings}, preset.backend)


def words_of(span: str) -> tuple[str, list[str]] | None:
    """(module, words) of a span that shows one of our commands."""
    found = MODULE.match(span)
    return (found[1], shlex.split(span[found.end() :])) if found else None


def modules_in(cell: str) -> list[str]:
    return [found[0] for span in SPAN.findall(cell) if (found := words_of(span))]


def test_the_page_is_read_as_it_is_meant() -> None:
    """The tests below are about more than a handful."""
    assert len(sections()) == 6
    assert len(rows()) > 75
    assert all(sum(row.section == number for row in rows()) >= 8 for number in range(5))
    assert sum(words_of(span) is not None for span in SPAN.findall(PAGE)) > 45
    assert len(blocks()) == 2


@pytest.mark.parametrize("section", INVENTORY)
def test_everything_of_the_old_tools_is_there(section: int) -> None:
    """Each command, flag, file and key of theirs stands in the left column of a table, or above it."""
    old = sections()[section].partition("| old | new |")[0] + " ".join(row.old for row in rows() if row.section == section)
    squeezed = old.replace(" ", "")
    missing = [word for word in INVENTORY[section].split() if word not in squeezed]
    assert not missing


def test_every_command_of_ours_is_understood() -> None:
    """Each that the page shows, in tables, paragraphs and blocks: by its own parser, with its options' types."""
    for shown in [*SPAN.findall(PAGE), *blocks()]:
        if found := words_of(shown):
            parse(*found)


def test_every_option_of_ours_exists() -> None:
    """An option that stands alone is one of a command in its row, or else of hpc.submit."""
    for row in rows():
        candidates = modules_in(row.new) or ["hpc.submit"]
        for span in SPAN.findall(row.new):
            if span.startswith("--"):
                assert any(understands(module, span) for module in [*candidates, "hpc.submit"]), (row, span)


def understands(module: str, span: str) -> bool:
    option, *values = shlex.split(span)
    known = {name: one for one in command_of(module).params for name in one.opts if one.param_type_name == "option"}
    if option not in known:
        return False
    if values:
        parse(module, [option, *values, *(["--backend", "step_audio"] if option == "--set" else [])])
    return True


def test_flags_that_stay_the_same_do() -> None:
    """Where the page says `the same`, the old flags are options of the command that it names."""
    checked = 0
    for row in rows():
        same = row.new.startswith("the same, of ") or "with the same flags" in row.new
        for module in modules_in(row.new)[:1] if same else []:
            for span in SPAN.findall(row.old):
                words = shlex.split(span)
                for flag in words if words[0].startswith("-") else words[1:]:
                    if flag.startswith("--"):
                        assert flag in {name for one in command_of(module).params for name in one.opts}, (row, flag)
                        checked += 1
    assert checked > 20


def test_settings_of_a_training() -> None:
    """`key: value` is understood as a line of --config."""
    usual = load_yaml(DEFAULTS.read_text(encoding="utf-8"))
    spans = [span for row in rows() if row.section == TASTE for span in SPAN.findall(row.new) if re.match(r"\w+: ", span)]
    assert len(spans) > 8
    for span in spans:
        msgspec.convert({**usual, **load_yaml(span)}, Settings)


def test_names_in_python() -> None:
    """What is imported or called from tar2tokens is there; the class has the old one's methods and parameters."""
    for name in re.findall(r"tar2tokens\.(\w+)\(|from tar2tokens import (\w+)", PAGE):
        assert "".join(name) in tar2tokens.__all__
    same = " ".join(row.old for row in rows() if row.section == STEP_AUDIO and row.new.startswith("the same"))
    for name, parameters in re.findall(r"(\w+)(?:\(([\w, ]+)\))?", " ".join(SPAN.findall(same))):
        if name in OTHERWISE:
            assert not OTHERWISE[name] or inspect.signature(OTHERWISE[name]).parameters.keys() >= {*parameters.split(", ")}
        elif name in ("enable_trim", "energy_norm"):
            assert name in inspect.signature(StepAudioTokenizer.wav2token).parameters
        else:
            method = getattr(StepAudioTokenizer, name)
            assert inspect.signature(method).parameters.keys() >= set(filter(None, parameters.split(", ")))


def keys_of(section: int) -> list[str]:
    """The old keys that the last table of a section names."""
    table = sections()[section].rpartition("| old | new |")[2]
    return [key for line in table.splitlines() if line.startswith("| `") for key in SPAN.findall(line.split(" | ")[0])]


def test_lines_in_the_shapes_of_the_old_tools() -> None:
    """`merge --shape` writes exactly the keys that the tables of keys name, in any order, for each tool with lines."""
    packed = {"id": "v/a", "source": {"audio": "v/a.wav", "sample_rate": 48000}}
    bicodec = record({"global_tokens": b"[1]", "semantic_tokens": b"[2]"}, text="x", language="zh")
    pairs = record({"tokens": b'"<audio_1>"'}, text="x", metadata=packed)
    shapes: dict[Shape, tuple[int, TokenRecord]] = {
        "higgs": (HIGGS, record()),
        "bicodec": (BICODEC, bicodec),
        "text_audio_pairs": (PAIRS, pairs),
    }
    assert shapes.keys() == NEEDED.keys()
    for shape, (section, one) in shapes.items():
        assert f"--shape {shape}" in sections()[section]
        line = shape_line(shape, lines_of([one]))
        assert isinstance(line, bytes)
        assert set(json.loads(line)) == set(keys_of(section)) - {"error"}
    assert [fitting_shapes(fields) for fields in (BICODEC_FIELDS, PAIR_FIELDS)] == [["bicodec"], ["text_audio_pairs"]]


def test_keys_of_other_records() -> None:
    """Step-Audio's further keys, and those of the features for TASTE, which their backends declare."""
    factory = get_factory("step_audio")
    usual = complete_options(factory, load_preset("step_audio").options, "step_audio")
    more = check_options({**usual, "model_path": "x", "raw_codes": True, "shifted_ids": True})
    names = {field.name for field in fields_of(more)}
    assert names == {"tokens", "vq02", "vq06", "token_ids"}
    shown = {span for row in rows() if row.section in (STEP_AUDIO, PAIRS) for span in SPAN.findall(row.new)}
    assert names - {"tokens"} <= shown
    for backend, keys in {"cosyvoice_text": ("text_tokens", "text_embedding"), "whisper_features": ("mid", "final")}.items():
        source = "".join(path.read_text() for path in (ROOT / "tokenizers" / "audio_tokenizers" / backend).glob("*.py"))
        (row,) = (row for row in rows() if f"--backend {backend} " in row.new)
        assert all(f"`{key}`" in row.new and f'"{key}"' in source for key in keys)


def test_the_way_of_the_first_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The old tool's own flags, given to our commands with a small tar: the same list, files, keys and marks come out."""
    small_tar(here / "data" / "000001.tar")
    (here / "data" / "000002.tar").write_bytes(b"")
    values = {"D": "data", "F": "tars.txt", "P": "*.tar", "A": "0", "T": "data/000001.tar", "O": "OUT", "LIST": "tars.txt"}
    ran = []
    for row in rows():
        if row.section == HIGGS and "with the same flags" in row.new:
            module = modules_in(row.new)[0]
            words = [values.get(word, word) for word in shlex.split(SPAN.findall(row.old)[0])[1:]]
            if "--model-path" in words:  # mulaw has no weights
                weights = words.index("--model-path")
                words[weights : weights + 2] = ["--backend", "mulaw"]
            assert run(module, *words) == 0
            ran.append(module)
    assert ran == ["tools.generate_tar_list", "jobs.tokenize_tar", "tools.check_progress"]
    out = capsys.readouterr().out
    assert "[1/2] ✓ 000001.tar" in out
    assert "[2/2] ○ 000002.tar" in out
    assert (here / "remaining_tar_files.txt").read_text() == f"{here}/data/000002.tar\n"
    lines = [json.loads(line) for line in (here / "OUT" / "000001.jsonl").read_bytes().splitlines()]
    keys = set().union(*lines)
    assert set(keys_of(HIGGS)) | {"text", "error_kind"} <= keys

    (here / "OUT").rename("tokens")
    (merge,) = (span for span in SPAN.findall(PAGE) if "tools.merge --output all.jsonl --shape higgs" in span)
    module, words = words_of(merge) or ("", [])
    assert run(module, *words) == 0
    merged = [json.loads(line) for line in (here / "all.jsonl").read_bytes().splitlines()]
    assert {tuple(line) for line in merged} == {tuple(key for key in keys_of(HIGGS) if key != "error")}


def run(module: str, *words: str) -> int:
    return call(getattr(importlib.import_module(module), module.rpartition(".")[2]), *words)


def test_files_of_a_run_and_a_training() -> None:
    """Names that the page promises are those that the code writes."""
    for name, source in {
        "loss_curve.png": "jobs/taste/curves.py",
        "metrics.csv": "jobs/taste/curves.py",
        "invalid_tar_files.txt": "tools/check_progress.py",
    }.items():
        assert name in PAGE
        assert name in (ROOT / source).read_text(encoding="utf-8")
