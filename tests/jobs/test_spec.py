"""jobs/spec.py: what decides bytes is in the fingerprint, what does not is not, and a run has one spec for good."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import itertools
import math
import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.runs import tree
from support.small_run import spec_of

from audio_tokenizers import registry
from audio_tokenizers.base import BackendInfo, Batching, Field, Options, Scalar
from audio_tokenizers.errors import UsageError
from jobs import spec as module
from jobs.audio_formats import FORMER_EXTENSIONS
from jobs.fileops import FileOps
from jobs.spec import (
    TokenizeSpec,
    check_spec,
    freeze_spec,
    load_preset,
    make_spec,
    read_spec,
    spec_path,
    uses_gpu,
)
from jobs.text_rules import TextRules

CODES = Field(name="tokens", form="codes", width=8, codebook_size=1024, samples_per_item=960)


class Codec:
    """A factory of which every property can be set."""

    name = "codec"
    options: Mapping[str, tuple[Scalar, str]] = {"model_path": ("hub/id", ""), "tf32": (False, "")}

    def __init__(self) -> None:
        self.info: dict[str, Any] = {}

    def describe(self, options: Options, device: str) -> BackendInfo:
        values: dict[str, Any] = {
            "name": self.name,
            "sample_rate": 24000,
            "hop_length": 960,
            "fields": (CODES,),
            "mono": "mean",
            "min_samples": 960,
            "max_tokens_per_fragment": 750,
            "num_tokens_overlap": 25,
            "batching": Batching.SINGLE,
            "max_batch": 1,
            "recipe": {"weights": "sha", "tf32": options["tf32"], "kernel": device.partition(":")[0]},
        }
        return BackendInfo(**{**values, **self.info})

    def load(self, options: Options, device: str) -> None:
        raise AssertionError("planning loads nothing")


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> Codec:
    """The backend `codec`, registered, and presets in a folder of the test."""
    factory = Codec()
    point = importlib.metadata.EntryPoint("codec", "tests:none", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(registry, "_entry_points", lambda: {"codec": point})
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda _self: factory)
    return factory


class TestFingerprint:
    @pytest.mark.parametrize(
        "change",
        [
            {"sample_rate": 16000},
            {"hop_length": 480},
            {"fields": (dataclasses.replace(CODES, width=4),)},
            {"fields": (dataclasses.replace(CODES, codebook_size=512),)},
            {"fields": (CODES, Field(name="mid", form="features", width=4, dtype="float16"))},
            {"mono": "first"},
            {"min_samples": 400},
            {"max_tokens_per_fragment": 751},
            {"num_tokens_overlap": 26},
            {"recipe": {"weights": "other"}},
        ],
    )
    def test_all_that_a_backend_says_of_its_tokens(self, codec: Codec, change: dict[str, Any]) -> None:
        """Whatever of a backend decides tokens changes the fingerprint."""
        before = make_spec("codec", device="cpu").fingerprint
        codec.info = change
        assert make_spec("codec", device="cpu").fingerprint != before

    @pytest.mark.parametrize(
        "change",
        [
            {"max_tokens_per_fragment": 500},
            {"num_tokens_overlap": 10},
            {"max_duration": 60.0},
            {"max_damage": 0.03},
            {"max_damage": 0.0},
            {"extensions": (".mp3",)},
            {"sniff": True},
            {"text_keys": ("transcript",)},
            {"text_encoding": "shift_jis"},
            {"options": {"tf32": True}},
            {"device": "cuda"},
            {"channel": "right"},
            {"channel": "split"},
            {"segments": True},
            {"subset_ratio": 0.1},
        ],
    )
    def test_all_that_a_command_says_of_its_tokens(self, codec: Codec, change: dict[str, Any]) -> None:
        """Fragments, limits, which members are clips, options that are in the recipe, and a device that the recipe names."""
        before = make_spec("codec", device="cpu").fingerprint
        assert spec_of("codec", **{"device": "cpu", **change}).fingerprint != before

    @pytest.mark.parametrize(
        "change",
        [
            {"options": {"model_path": "/elsewhere"}},
            {"device": "cuda:3"},
            {"extensions": ("FLAC", ".mp3")},
            {"max_tokens_per_fragment": 750},
            {"channel": "mean"},
            {"segments": False},
            {"subset_ratio": 1.0},
        ],
    )
    def test_what_decides_no_token(self, codec: Codec, change: dict[str, Any]) -> None:
        """Weights may move, a device has another number, an option may be spelled or given otherwise."""
        base: dict[str, Any] = {"device": "cuda:0", "extensions": ("mp3", "flac")}
        assert spec_of("codec", **{**base, **change}).fingerprint == spec_of("codec", **base).fingerprint

    def test_the_usual_bound_of_a_clip_is_no_part_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """24 hours hold where nobody says anything, also in runs that were frozen before there was a bound."""
        spec = make_spec("mulaw", device="cpu")
        assert (spec.max_duration, spec.longest_seconds) == (None, 24 * 3600.0)
        assert spec_of("mulaw", device="cpu", max_duration=1e6).longest_seconds == 1e6
        monkeypatch.setattr(module, "LONGEST_CLIP_SECONDS", 5.0)
        assert make_spec("mulaw", device="cpu") == spec

    def test_runs_from_before_there_were_channels_and_segments(self, tmp_path: Path) -> None:
        """Their fingerprint is what it was, with the keys in their spec.yaml and without; a choice is told apart from it."""
        before: dict[str, Any] = {"device": "cpu", "max_damage": 0.0}
        spec = spec_of("mulaw", **before)
        later = ("max_damage", "sniff", "channel", "segments", "adopted", "subset_ratio")
        old = {k: v for k, v in msgspec.to_builtins(spec).items() if k not in (*later, *module.NOT_HASHED)}
        decisive = msgspec.json.encode(old, order="sorted")
        assert spec.fingerprint == hashlib.sha256(decisive).hexdigest()[:16]
        freeze_spec(tmp_path, spec)
        lines = spec_path(tmp_path).read_text().splitlines(keepends=True)
        spec_path(tmp_path).write_text("".join(line for line in lines if not line.startswith(later)))
        assert read_spec(tmp_path) == spec
        check_spec(tmp_path, spec_of("mulaw", **before, channel="mean"))
        changes: list[tuple[dict[str, Any], str]] = [
            ({"channel": "left"}, "+channel: first"),
            ({"segments": True}, "+segments: True"),
            ({"subset_ratio": 0.5}, "-subset_ratio: 1.0\n+subset_ratio: 0.5"),
        ]
        for settings, words in changes:
            with pytest.raises(UsageError) as caught:
                check_spec(tmp_path, spec_of("mulaw", **before, **settings))
            assert words in str(caught.value)

    @pytest.mark.parametrize("package", ["soundfile", "av", "soxr"])
    def test_decoders_decide(self, codec: Codec, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
        """Another release of a decoder or of the resampler may give other samples: it is another recipe."""
        before = make_spec("codec", device="cpu").fingerprint
        real = importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "0" if name == package else real(name))
        assert make_spec("codec", device="cpu").fingerprint != before

    def test_batching_does_not(self, codec: Codec) -> None:
        """Batches that a backend declares exact give the same tokens, so their size is free."""
        before = make_spec("codec", device="cpu").fingerprint
        codec.info = {"batching": Batching.ANY, "max_batch": 64}
        assert make_spec("codec", device="cpu").fingerprint == before


class TestWholeClips:
    def test_there_are_no_fragments(self, codec: Codec) -> None:
        """A backend of whole clips has no fragment length, and is asked for none."""
        codec.info = {"max_tokens_per_fragment": None, "num_tokens_overlap": 0}
        spec = make_spec("codec", device="cpu")
        assert (spec.max_tokens_per_fragment, spec.num_tokens_overlap) == (None, 0)
        wishes: list[dict[str, Any]] = [{"max_tokens_per_fragment": 100}, {"num_tokens_overlap": 5}]
        for wish in wishes:
            with pytest.raises(UsageError, match="codec takes whole clips"):
                spec_of("codec", device="cpu", **wish)

    def test_the_spec_comes_back(self, codec: Codec, tmp_path: Path) -> None:
        """All that a field says survives the file, with the same fingerprint."""
        fields = (
            Field(name="tokens", form="audio_string", codebook_size=5120, samples_per_item=384, slack=12),
            Field(name="ids", form="list", lowest=65536, codebook_size=5120),
            Field(name="mid", form="features", width=1280, samples_per_item=320.5, dtype="float16"),
        )
        codec.info = {"fields": fields, "max_tokens_per_fragment": None, "num_tokens_overlap": 0}
        spec = make_spec("codec", device="cpu")
        freeze_spec(tmp_path, spec)
        assert read_spec(tmp_path) == spec


class TestPresets:
    def preset(self, folder: Path, text: str) -> None:
        (folder / "nice.yaml").write_text(text)

    @pytest.fixture
    def folder(self, tmp_path: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(load_preset, "__defaults__", (tmp_path,))
        return tmp_path

    def test_preset_over_backend_and_command_line_over_both(self, folder: Path) -> None:
        """A preset gives the defaults of a name; what the command line says wins."""
        self.preset(
            folder,
            "backend: codec\noptions: {tf32: true, model_path: /a}\nmax_tokens_per_fragment: 100\nnum_tokens_overlap: 5\n"
            "max_duration: 30\nmax_damage: 0.5\nextensions: [mp3]\nsniff: true\nchannel: right\nsegments: true\n",
        )
        spec = make_spec("nice", device="cpu")
        assert (spec.backend, spec.options) == ("codec", {"model_path": "/a", "tf32": True})
        assert (spec.max_tokens_per_fragment, spec.num_tokens_overlap) == (100, 5)
        assert (spec.max_duration, spec.max_damage, spec.extensions, spec.sniff) == (30.0, 0.5, ("mp3",), True)
        assert (spec.channel_rule, spec.segments) == ("1", True)
        given = spec_of(
            "nice",
            device="cpu",
            options={"tf32": False},
            max_tokens_per_fragment=200,
            num_tokens_overlap=0,
            max_duration=9.0,
            max_damage=0.0,
            channel="mean",
            segments=False,
            extensions=["wav"],
        )
        assert given.options == {"model_path": "/a", "tf32": False}
        assert (given.max_tokens_per_fragment, given.num_tokens_overlap) == (200, 0)
        assert (given.max_duration, given.max_damage, given.extensions) == (9.0, 0.0, ("wav",))
        assert (given.channel_rule, given.segments) == ("mean", False)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "backend: [codec]\n",
            "backend: codec\nspeed: 9\n",
            "options: {}\n",
            "{",
            "backend: codec\noptions: {a: [1]}\n",
            "backend: a\x07b\n",
        ],
    )
    def test_broken_preset_is_named(self, folder: Path, text: str) -> None:
        """A preset with a typing error is refused with its file name, and not half used."""
        self.preset(folder, text)
        with pytest.raises(UsageError, match=r"nice.yaml: not a preset") as caught:
            make_spec("nice", device="cpu")
        assert "unicode string" not in str(caught.value)

    def test_a_name_that_is_neither(self) -> None:
        """What is answered with all that --backend takes, presets too, and the nearest of them."""
        with pytest.raises(
            UsageError, match=r"no backend 'mini': there are .*dac, encodec, .*mimi, .*; did you mean 'mimi'\?"
        ):
            load_preset("mini")

    def test_messages_name_what_was_asked_for(self, folder: Path) -> None:
        """A preset's name, and not that of the backend behind it, which the person may never have heard of."""
        self.preset(folder, "backend: codec\n")
        with pytest.raises(UsageError, match=r"backend 'nice' has no option 'speed'"):
            make_spec("nice", device="cpu", options={"speed": 9})
        with pytest.raises(UsageError, match=r"at least \d+ for nice"):
            spec_of("nice", device="cpu", max_tokens_per_fragment=2, num_tokens_overlap=1)

    def test_the_name_by_which_people_ask(self, codec: Codec) -> None:
        """A codec of `hf` has a preset of its own; any other backend has its own name."""
        spec = make_spec("codec", device="cpu")
        hf = msgspec.structs.replace(spec, backend="hf", recipe={**spec.recipe, "codec": "mimi"})
        assert (module.preset_name(spec), module.preset_name(hf)) == ("codec", "mimi")
        other = msgspec.structs.replace(hf, recipe={**spec.recipe, "codec": "higgs"})
        assert module.preset_name(other) == "hf"

    def test_the_preset_of_a_combination(self, tmp_path: Path) -> None:
        """Each part's preset under its name, and the shorter of their longest clips; a broken part is named."""
        for name, text in (("bicodec", "max_duration: 300\n"), ("step_audio", "max_duration: 90\noptions: {trim: true}\n")):
            (tmp_path / f"{name}.yaml").write_text(f"backend: {name}\n{text}")
        preset = load_preset("bicodec+step_audio+cosyvoice_text", tmp_path)
        assert preset.backend == "bicodec+step_audio+cosyvoice_text"
        assert (preset.options, preset.max_duration) == ({"step_audio.trim": True}, 90)
        assert load_preset("cosyvoice_text+cosyvoice_s3", tmp_path).max_duration is None
        with pytest.raises(UsageError, match=r"no backend 'step_odio'.*did you mean 'step_audio'"):
            load_preset("bicodec+step_odio", tmp_path)

    def test_presets_of_this_repository_load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every jobs/*.yaml is a preset of a backend that exists, with options that it has."""
        found = sorted(module.PRESET_FOLDER.glob("*.yaml"))
        assert found
        for path in found:
            preset = load_preset(path.stem)
            registry.complete_options(registry.get_factory(preset.backend), preset.options)

    @pytest.mark.parametrize("name", ["../nice", "{}/nice", "below/nice", "codec:FACTORY", "json:loads"])
    def test_names_are_no_paths_and_no_code(self, folder: Path, name: str) -> None:
        """A preset is one of ours and a backend is one that is installed; no file and no object is named from outside."""
        (folder / "below").mkdir()
        for place in (folder, folder / "below", folder.parent):
            self.preset(place, "backend: codec\n")
        with pytest.raises(UsageError, match="there is no backend"):
            make_spec(name.format(folder), device="cpu")


class TestSettings:
    def test_unknown_option(self, codec: Codec) -> None:
        """An option that the backend does not have is refused, with the nearest that it has."""
        with pytest.raises(UsageError, match=r"has no option 'tf23'.*did you mean 'tf32'"):
            make_spec("codec", device="cpu", options={"tf23": True})

    def test_local_weights_are_named_from_the_root(
        self, codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker may stand in another folder than the command did; what is not there is left alone: a hub id."""
        (tmp_path / "model").mkdir()
        monkeypatch.chdir(tmp_path)
        assert make_spec("codec", device="cpu", options={"model_path": "model"}).options["model_path"] == str(
            tmp_path / "model"
        )
        assert make_spec("codec", device="cpu", options={"model_path": "hub/id"}).options["model_path"] == "hub/id"

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ({"max_tokens_per_fragment": 50}, "more than twice the overlap"),
            ({"num_tokens_overlap": -1}, "--num-tokens-overlap -1"),
            ({"max_tokens_per_fragment": 0, "num_tokens_overlap": 0}, "--max-tokens-per-fragment 0"),
            ({"max_duration": 0.0}, "expected seconds above 0"),
            ({"max_duration": -1.0}, "expected seconds above 0"),
        ],
    )
    def test_impossible_fragments(self, codec: Codec, values: dict[str, Any], words: str) -> None:
        """Fragments that cannot work, and durations that nothing has, are refused before a run begins."""
        with pytest.raises(UsageError, match=words):
            spec_of("codec", device="cpu", **values)

    def test_duration_that_is_no_number(self, codec: Codec) -> None:
        """`nan` compares as nothing does, so as a limit it would silently be none."""
        with pytest.raises(UsageError, match="--max-duration nan"):
            spec_of("codec", device="cpu", max_duration=math.nan)

    @pytest.mark.parametrize("share", [-0.01, 1.01, 2.0, math.nan, math.inf])
    def test_damage_that_is_no_share(self, codec: Codec, share: float) -> None:
        """A percentage given as a share, or no number at all, is refused with what is expected."""
        with pytest.raises(UsageError, match=rf"--max-damage {share:g}: expected a share of the clip, from 0 .* to 1 "):
            spec_of("codec", device="cpu", max_damage=share)

    @pytest.mark.parametrize("extensions", [("",), (".",), (",", " ")])
    def test_extensions_that_are_none(self, codec: Codec, extensions: tuple[str, ...]) -> None:
        """No member would be a clip."""
        with pytest.raises(UsageError, match=r"--extensions .*: expected extensions such as \.mp3 \.wav"):
            spec_of("codec", device="cpu", extensions=extensions)

    def test_a_share_of_the_clips_that_is_none(self, codec: Codec) -> None:
        """A percentage would take everything."""
        with pytest.raises(UsageError, match="--subset-ratio 10: expected a share of the clips"):
            spec_of("codec", device="cpu", subset_ratio=10.0)


OLD_SPEC = """\
backend: mulaw
device: cpu
sample_rate: 8000
hop_length: 1
fields:
- {name: tokens, form: codes, width: 1, lowest: 0, codebook_size: 256, items: null, samples_per_item: 1.0, slack: 2.0,
  dtype: ''}
mono: mean
min_samples: 1
max_tokens_per_fragment: 480000
num_tokens_overlap: 0
max_duration: null
extensions: [aac, ac3, aif, aifc, aiff, amr, au, caf, flac, m4a, m4b, mka, mp2, mp3, mp4, oga, ogg, opus, sph, w64, wav,
  webm, wma]
recipe: {companding: 'mu-law, mu = 255', numpy: 2.4.6, resampler: soxr HQ, soundfile: 0.14.0, av: 18.1.0, soxr: 1.1.0}
options: {}
fingerprint: 9a0c221f3a8ffde8
"""
"""Frozen before there was --max-damage."""


class TestDamage:
    def test_new_runs_keep_clips_that_lack_little(self) -> None:
        """Two hundredths where nobody says anything; it is part of the recipe."""
        assert spec_of("mulaw", device="cpu").max_damage == 0.02

    def test_a_run_from_before_goes_on_as_it_began(self, tmp_path: Path) -> None:
        """Its frozen spec has the fingerprint that it had, and keeps no damaged clip; nor do its next commands, unless one
        of them says otherwise, which is another recipe.
        """
        spec_path(tmp_path).parent.mkdir()
        spec_path(tmp_path).write_text(OLD_SPEC)
        frozen = read_spec(tmp_path)
        assert frozen is not None
        assert (frozen.fingerprint, frozen.max_damage) == ("9a0c221f3a8ffde8", 0.0)
        assert spec_of("mulaw", device="cpu", begun=frozen).max_damage == 0.0
        assert spec_of("mulaw", device="cpu", begun=frozen, max_damage=0.5).max_damage == 0.5
        check_spec(tmp_path, frozen)
        asked = msgspec.structs.replace(frozen, max_damage=0.5)
        with pytest.raises(UsageError, match=r"\n-max_damage: 0.0\n\+max_damage: 0.5$"):
            check_spec(tmp_path, msgspec.structs.replace(asked, fingerprint=module._fingerprint(asked)))

    def test_other_runs_have_to_be_told_again(self, tmp_path: Path) -> None:
        """As for all that is part of the recipe: what a command does not say is the default, in a new run too."""
        other = spec_of("mulaw", device="cpu", max_damage=0.5)
        assert spec_of("mulaw", device="cpu", begun=other).max_damage == 0.02
        freeze_spec(tmp_path, other)
        assert read_spec(tmp_path) == other


def freeze_one(arguments: tuple[Path, float | None]) -> str:
    output, max_duration = arguments
    spec = spec_of("mulaw", device="cpu", max_duration=max_duration)
    try:
        freeze_spec(output, spec)
    except UsageError as error:
        return str(error)
    return spec.fingerprint


class TestRunsFromBefore:
    """Those that began before there was much to choose go on as they began, with the same fingerprint."""

    @pytest.fixture
    def begun(self, tmp_path: Path) -> TokenizeSpec:
        """The spec of such a run, as its file came out then."""
        spec = make_spec("mulaw", device="cpu")
        recipe = {key: value for key, value in spec.recipe.items() if key != module.DETECTOR}
        spec = msgspec.structs.replace(spec, recipe=recipe, extensions=FORMER_EXTENSIONS[0])
        values = msgspec.to_builtins(spec)
        values = {key: value for key, value in values.items() if key not in (*module.UNDECIDED, "fingerprint")}
        hashed = {key: value for key, value in values.items() if key not in module.NOT_HASHED}
        values["fingerprint"] = hashlib.sha256(msgspec.json.encode(hashed, order="sorted")).hexdigest()[:16]
        spec_path(tmp_path).parent.mkdir()
        spec_path(tmp_path).write_text(yaml.safe_dump(values, sort_keys=False))
        found = read_spec(tmp_path)
        assert found is not None
        return found

    def test_the_same_command_goes_on(self, tmp_path: Path, begun: TokenizeSpec) -> None:
        """It asks for nothing that was not there."""
        assert begun.text_rules is None
        again = make_spec("mulaw", device="cpu", begun=begun)
        assert again == begun
        freeze_spec(tmp_path, again)

    @pytest.mark.parametrize("asked", [{"text_encoding": "auto"}, {"text_keys": ("text",)}])
    def test_rules_that_somebody_asks_for_are_refused(
        self, tmp_path: Path, begun: TokenizeSpec, asked: dict[str, Any]
    ) -> None:
        """With the lines that differ: its texts would be of two kinds."""
        with pytest.raises(UsageError, match=r"-text_keys: None\n.*-text_encoding: None\n"):
            freeze_spec(tmp_path, spec_of("mulaw", device="cpu", begun=begun, **asked))

    def test_a_run_that_begins_now_has_them(self, tmp_path: Path) -> None:
        """And keeps them, in the file too."""
        spec = spec_of("mulaw", device="cpu", text_keys=["transcript"], text_encoding="Shift-JIS")
        freeze_spec(tmp_path, spec)
        assert read_spec(tmp_path) == spec
        assert spec.text_rules == TextRules(("transcript",), "cp932")
        assert make_spec("mulaw", device="cpu").text_rules == TextRules()
        assert module.DETECTOR in make_spec("mulaw", device="cpu").recipe
        assert module.DETECTOR not in spec.recipe

    def test_a_preset_may_say_them(self, tmp_path: Path) -> None:
        """The command line wins."""
        (tmp_path / "p.yaml").write_text("backend: mulaw\ntext_keys: [transcript]\ntext_encoding: big5\n")
        preset = load_preset("p", tmp_path)
        assert (preset.text_keys, preset.text_encoding) == (("transcript",), "big5")


class TestFreezing:
    def test_twice_is_once(self, tmp_path: Path) -> None:
        """The same recipe again is accepted and writes nothing, so that a finished run may lie on a read-only disk."""
        spec = make_spec("mulaw", device="cpu")
        freeze_spec(tmp_path, spec)
        before = tree(tmp_path)
        assert list(before) == [".run/spec.yaml"]

        class ReadOnly(FileOps):
            def create(self, path: Path) -> int:
                raise AssertionError(path)

        freeze_spec(tmp_path, spec, ReadOnly())
        assert tree(tmp_path) == before
        assert read_spec(tmp_path) == spec

    def test_a_run_from_before_there_were_more_formats(self, tmp_path: Path) -> None:
        """It goes on with the extensions that were the default then, and its spec, which knows nothing of --sniff, is as
        good as ever. Another choice of extensions is another recipe.
        """
        old = spec_of("mulaw", device="cpu", extensions=FORMER_EXTENSIONS[0])
        freeze_spec(tmp_path, old)
        path = spec_path(tmp_path)
        text = path.read_text()
        path.write_text(text.replace("sniff: false\n", ""))
        assert path.read_text() != text
        asked = make_spec("mulaw", device="cpu", begun=old)
        check_spec(tmp_path, asked)
        assert read_spec(tmp_path) == asked == old
        assert spec_of("mulaw", device="cpu", begun=old, extensions=["wav"]).extensions == ("wav",)
        with pytest.raises(UsageError, match="extensions"):
            check_spec(tmp_path, make_spec("mulaw", device="cpu"))
        with pytest.raises(UsageError, match="sniff: True"):
            check_spec(tmp_path, spec_of("mulaw", device="cpu", extensions=FORMER_EXTENSIONS[0], sniff=True))

    def test_moved_weights_are_the_same_recipe(self, tmp_path: Path, codec: Codec) -> None:
        """Options that decide no token may differ from one command to the next."""
        freeze_spec(tmp_path, make_spec("codec", device="cuda:0"))
        freeze_spec(tmp_path, make_spec("codec", device="cuda:1", options={"model_path": "/moved"}))

    def test_other_recipe_is_refused_with_the_lines_that_differ(self, tmp_path: Path, codec: Codec) -> None:
        """The message has what this directory has and what was asked, and nothing that is equal."""
        freeze_spec(tmp_path, make_spec("codec", device="cpu"))
        before = tree(tmp_path)
        asked = spec_of("codec", device="cpu", options={"tf32": True, "model_path": "/x"}, max_duration=3.5)
        for refuse in (freeze_spec, check_spec):
            with pytest.raises(UsageError) as caught:
                refuse(tmp_path, asked)
            lines = str(caught.value).splitlines()
            assert str(tmp_path) in lines[0]
            assert "--output-dir" in lines[0]
            changes = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
            assert changes == ["-max_duration: None", "+max_duration: 3.5", "-tf32: False", "+tf32: True"]
        assert tree(tmp_path) == before

    def test_nothing_frozen_yet(self, tmp_path: Path) -> None:
        """A directory without a run takes any spec, and checking does not make one."""
        check_spec(tmp_path / "none", make_spec("mulaw", device="cpu"))
        assert read_spec(tmp_path / "none") is None
        assert not (tmp_path / "none").exists()

    def test_another_command_is_faster(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A recipe that appears after the first look counts as any other: the later command is told the difference."""
        mine, other = make_spec("mulaw", device="cpu"), spec_of("mulaw", device="cpu", max_duration=5.0)

        looks = itertools.count(1)

        def other_after_the_first_look(output_dir: Path) -> Path:
            if next(looks) == 2:
                monkeypatch.undo()
                freeze_spec(output_dir, other)
            return spec_path(output_dir)

        monkeypatch.setattr(module, "spec_path", other_after_the_first_look)
        with pytest.raises(UsageError, match="holds tokens of another recipe"):
            freeze_spec(tmp_path, mine)
        assert read_spec(tmp_path) == other

    @pytest.mark.slow
    def test_processes_at_once(self, tmp_path: Path) -> None:
        """Of several recipes frozen at the same time one wins, whole; the others are told the difference."""
        for attempt in range(3):
            output = tmp_path / str(attempt)
            durations: list[float | None] = [None, 5.0, None, 5.0]
            with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
                ends = list(pool.map(freeze_one, [(output, duration) for duration in durations]))
            frozen = read_spec(output)
            assert frozen is not None
            for duration, end in zip(durations, ends, strict=True):
                if duration == frozen.max_duration:
                    assert end == frozen.fingerprint
                else:
                    assert "holds tokens of another recipe" in end
                    assert "or the options that it was begun with (python -m hpc.resume goes on with them)" in end
            assert list(tree(output)) == [".run/spec.yaml"]

    @pytest.mark.parametrize("content", [b"", b"[]", b"backend: x\n", b"{", b"\xff\xfe", b"a: !!python/object:x {}\n"])
    def test_file_that_is_no_spec(self, tmp_path: Path, content: bytes) -> None:
        """A damaged spec is refused by name: guessing would mix recipes."""
        spec_path(tmp_path).parent.mkdir()
        spec_path(tmp_path).write_bytes(content)
        with pytest.raises(UsageError, match=r"spec.yaml: not a spec of this version"):
            read_spec(tmp_path)

    def test_edited_spec_is_found_out(self, tmp_path: Path) -> None:
        """Values that were changed by hand do not fit the fingerprint, and are not worked with."""
        freeze_spec(tmp_path, make_spec("mulaw", device="cpu"))
        text = spec_path(tmp_path).read_text()
        spec_path(tmp_path).write_text(text.replace("max_duration: null", "max_duration: 5.0"))
        with pytest.raises(UsageError, match="it has been edited"):
            read_spec(tmp_path)

    scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    names = st.text(st.characters(min_codepoint=32, max_codepoint=0x24F, blacklist_characters="\x7f\x85"), max_size=12)

    @pytest.mark.slow
    @given(st.dictionaries(names, scalars | names, max_size=5), st.none() | st.floats(0.1, 1e6))
    def test_any_recipe_round_trips(
        self, tmp_path_factory: pytest.TempPathFactory, recipe: dict[str, Scalar], max_duration: float | None
    ) -> None:
        """Version numbers, hashes and texts that look like other YAML values come back as what they were."""
        base = spec_of("mulaw", device="cpu", max_duration=max_duration)
        spec = msgspec.structs.replace(base, recipe={**base.recipe, **recipe, "version": "1.10", "hash": "1e5", "on": "yes"})
        spec = msgspec.structs.replace(spec, fingerprint=module._fingerprint(spec))
        output = tmp_path_factory.mktemp("spec")
        freeze_spec(output, spec)
        assert read_spec(output) == spec
        assert yaml.safe_load(spec_path(output).read_text(encoding="utf-8"))["fingerprint"] == spec.fingerprint


def test_backends_that_use_no_gpu() -> None:
    """Those that say so; presets are asked by the backend that they stand for, and who says nothing may use one."""
    assert [uses_gpu(name) for name in ("mulaw", "higgs", "mimi")] == [False, True, True]
