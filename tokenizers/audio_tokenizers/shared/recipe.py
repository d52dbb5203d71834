"""What the recipes of torch backends have in common. A key is never renamed: runs of earlier versions must go on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from typing import Any

from audio_tokenizers.base import Scalar
from audio_tokenizers.shared.options import Precision

__all__ = ["config_sha256", "recipe_tail"]


def config_sha256(config: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a parsed config, whatever the order of its keys and the white space of its file.

    What YAML has beside JSON, such as dates, counts as its text.
    """
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def recipe_tail(device: str, precision: Precision, versions: Mapping[str, str], *, lanes: int = 0) -> dict[str, Scalar]:
    """The class of device, its arithmetic, package versions, and lanes.

    `precision` and `lanes` are there only for bfloat16 and where there are lanes: runs from before there was either go on.
    For `mps` also the version of macOS.
    """
    return {
        "tf32": precision == "tf32",
        "device": device.partition(":")[0],
        **versions,
        **({"precision": precision} if precision == "bf16" else {}),
        **({"lanes": lanes} if lanes else {}),
        # There, the products and convolutions are macOS's, not torch's.
        **({"macos": platform.mac_ver()[0]} if device == "mps" else {}),
    }
