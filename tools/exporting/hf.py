"""Makes a folder of Parquet files a Hugging Face data set: types in each file, and README.md."""

from __future__ import annotations

import json
from typing import Any

from audio_tokenizers.base import Field
from audio_tokenizers.shared.wording import counted
from jobs.spec import TokenizeSpec
from tools.exporting.batches import number_type

__all__ = ["dataset_card", "features_metadata"]

CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
tags:
- audio
- speech-tokens
- {backend}
---

# Audio tokens of {backend}

{clips} in {files}, made by tar2tokens. The licence is that of the audio and its transcripts: say it
above, as `license: ...`, before you publish this.

    from datasets import load_dataset
    data = load_dataset("FOLDER_OR_REPOSITORY", split="train").with_format("numpy")

| column | type | what it is |
|---|---|---|
| `tar_file`, `audio_file` | string | where the clip comes from |
| `num_samples` | int64 | samples at `sample_rate`, after resampling |
| `sample_rate` | int32 | Hz that the backend takes: {sample_rate} |
{columns}
| `text`, `language` | string or null | from the clip's sidecar files |
| `metadata` | string or null | the rest of its `.json` sidecar, as JSON |

One second of audio is {rate:g} frames. Recipe of the tokens: `{fingerprint}`{adopted}.
"""
DAMAGE_ROWS = (
    "| `damage_seconds` | float64 | audio of the clip that could not be decoded; 0: it is whole |",
    "| `damage` | string or null | why |",
)
"""Of a run that keeps damaged clips."""
NOTES_ROW = (
    "| `notes` | list of string | `opposite_phase`: the channels cancel each other in their mean, which is what was heard |"
)
ADOPTED_WORDS = ", but for clips with the note `adopted`: another tool made their tokens"


def dataset_card(spec: TokenizeSpec, *, clips: int, files: int, notes: bool = False) -> str:
    """README.md."""
    columns = "\n".join(
        [
            *(DAMAGE_ROWS if spec.max_damage else ()),
            *(f"| `{field.name}` | {_type_words(field)} |" for field in spec.fields),
            *([NOTES_ROW] if notes else []),
        ]
    )
    return CARD.format(
        backend=spec.backend,
        clips=counted(clips, "clip"),
        files=counted(files, "Parquet file"),
        sample_rate=spec.sample_rate,
        columns=columns,
        rate=spec.sample_rate / spec.hop_length,
        fingerprint=spec.fingerprint,
        adopted="" if spec.adopted is None else ADOPTED_WORDS,
    )


def _type_words(field: Field) -> str:
    number = number_type(field)
    if field.form == "features":
        return f"list of lists of {number} | [rows][{field.width}] features"
    values = f"{field.lowest} to {field.lowest + field.codebook_size - 1}"
    if field.form == "codes":
        return f"list of lists of {number} | [{counted(field.width, 'codebook')}][frames], {values}"
    return f"list of {number} | {values}"


def features_metadata(spec: TokenizeSpec, *, notes: bool = False) -> dict[str, str]:
    """Schema metadata with the types for `datasets`."""
    features: dict[str, Any] = {
        "tar_file": _value("string"),
        "audio_file": _value("string"),
        "num_samples": _value("int64"),
        "sample_rate": _value("int32"),
        **({"damage_seconds": _value("float64"), "damage": _value("string")} if spec.max_damage else {}),
        **{field.name: _feature(field) for field in spec.fields},
        **({"notes": _sequence(_value("string"))} if notes else {}),
        "text": _value("string"),
        "language": _value("string"),
        "metadata": _value("string"),
    }
    return {"huggingface": json.dumps({"info": {"features": features}})}


def _value(kind: str) -> dict[str, str]:
    return {"dtype": kind, "_type": "Value"}


def _sequence(feature: object, length: int = -1) -> dict[str, Any]:
    # `Sequence`, not `List`: only `datasets` 4 and later know `List`, and they read both.
    return {"feature": feature, "length": length, "_type": "Sequence"}


def _feature(field: Field) -> dict[str, Any]:
    number = _value(str(number_type(field)))
    if field.form == "features":
        return _sequence(_sequence(number, field.width))
    return _sequence(_sequence(number)) if field.form == "codes" else _sequence(number)
