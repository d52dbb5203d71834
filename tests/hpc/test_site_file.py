"""hpc/site_file.py: cluster.yaml says the same as the options, and a mistake in it is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.runs import ROOT

from audio_tokenizers.errors import UsageError
from hpc.launch import make_launch
from hpc.launch_options import LaunchOptions, Site, overlay
from hpc.site_file import read_site, site_defaults


class TestSiteFile:
    def write(self, folder: Path, text: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cluster.yaml").write_text(text)
        return folder

    def test_the_first_one_counts(self, tmp_path: Path) -> None:
        """A file in the current folder stands for the user's own; without either there are no defaults."""
        here, home = tmp_path / "here", self.write(tmp_path / "home", "partition: slow\n")
        assert site_defaults([here, home]).partition == "slow"
        self.write(
            here, "partition: fast\ntime: 2:00:00\nsetup: [module load cuda]\nslurm: {reservation: big, exclusive: true}\n"
        )
        site = site_defaults([here, home])
        assert (site.partition, site.setup, site.slurm) == (
            "fast",
            ("module load cuda",),
            {"reservation": "big", "exclusive": True},
        )
        assert site_defaults([tmp_path / "none"]) == Site()

    def test_time_without_quotes(self, tmp_path: Path) -> None:
        """YAML takes 2:00:00 for a number in base 60, so for seconds; it still is two hours."""
        for text in ("time: 2:00:00", "time: '2:00:00'", "time: 120"):
            site = site_defaults([self.write(tmp_path, text)])
            launch = make_launch(overlay(site, LaunchOptions(device="cpu")), environment={"PATH": ""})
            assert launch.time_limit_min == 120, text

    def test_user_configuration(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody says otherwise, the folders are the current one and tar2tokens below the configuration folder."""
        self.write(tmp_path / "config" / "tar2tokens", "account: mine\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        assert site_defaults().account == "mine"
        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert site_defaults() == Site()

    @pytest.mark.parametrize(
        "text",
        [
            *("partitoin: x\n", "procs_per_gpu: two\n", "- a\n", "a: [\n", "slurm: {array: 0-3}\n", "\xff"),
            *("procs_per_gpu: 0\n", "tars_per_gpu: 0\n", "cpus_per_gpu: 0\n", "max_running: 0\n", "decode_threads: 0\n"),
            *("decode_threads: all\n", "decode_threads: true\n", "buffer_memory: big\n", "buffer_memory: 8\n"),
            *("memory_guard: 90\n", "memory_guard: true\n", "memory_guard: much\n"),
            *("time: soon\n", "gpus_per_node: many\n", "gpu_request: tres\n"),
            *("clip_timeout: -1\n", "clip_timeout: long\n"),
        ],
    )
    def test_mistakes_are_named(self, text: str, tmp_path: Path) -> None:
        """A key that does not exist, a wrong value or no YAML at all is never passed over; the message says which file."""
        (tmp_path / "cluster.yaml").write_bytes(text.encode("latin-1"))
        with pytest.raises(UsageError, match=r"cluster\.yaml: "):
            site_defaults([tmp_path])

    def test_a_mistake_in_the_yaml_has_a_line(self, tmp_path: Path) -> None:
        """Line and column in the file that is named, and no made-up name beside it."""
        (tmp_path / "cluster.yaml").write_text("time: 1:00:00\nsetup: [a\n")
        with pytest.raises(UsageError, match=r"cluster\.yaml: not a site's defaults: line 3, column 1: expected"):
            site_defaults([tmp_path])

    def test_how_a_worker_is_fed(self, tmp_path: Path) -> None:
        """Threads, memory and patience, in the words that the command line takes."""
        text = "decode_threads: 6\nbuffer_memory: 1.5GiB\nmemory_guard: 0.8\nclip_timeout: 900\n"
        site = site_defaults([self.write(tmp_path, text)])
        assert (site.decode_threads, site.buffer_bytes, site.guard, site.clip_timeout) == (6, 3 << 29, 0.8, 900.0)
        site = site_defaults([self.write(tmp_path, "decode_threads: auto\nbuffer_memory: 2000000\nmemory_guard: 1\n")])
        assert (site.decode_threads, site.buffer_bytes, site.guard) == ("auto", 2_000_000, 1.0)

    def test_the_example_in_the_docs(self, tmp_path: Path) -> None:
        """It can be used as it stands, and names every key that there is."""
        text = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
        assert text is not None
        site = read_site(self.write(tmp_path, text[1]) / "cluster.yaml")
        assert {name for name in Site.__struct_fields__ if getattr(site, name) == getattr(Site(), name)} == set()
