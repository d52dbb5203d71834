"""hpc/launch.py: what a person or a site says of how to run, checked before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from audio_tokenizers.errors import UsageError
from hpc.launch import (
    Launch,
    Site,
    check_cluster,
    check_gpu_request,
    check_tars_per_gpu,
    make_launch,
    overlay,
    parse_gpus,
    parse_minutes,
    parse_slurm_settings,
    site_defaults,
)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        (90, 90),
        ("90", 90),
        ("90:00", 90),
        ("0:05", 1),
        ("2:30", 3),
        ("2:00:00", 120),
        ("0:00:01", 1),
        ("1-12", 36 * 60),
        ("1-12:30", 36 * 60 + 30),
        ("1-00:00:00", 24 * 60),
        ("0-0:0:61", 2),
    ],
)
def test_time_is_read_as_sbatch_reads_it(text: str | int, minutes: int) -> None:
    """Every form that sbatch takes means here what it means there; Slurm counts limits in minutes, rounded up."""
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "0", "0:00", "2h", "-5", "1:2:3:4", "1-", "UNLIMITED"])
def test_time_that_sbatch_would_not_take(text: str) -> None:
    """A limit that is none is refused here, with the forms that are."""
    with pytest.raises(UsageError, match="--time"):
        parse_minutes(text)


def test_gpus() -> None:
    """A number, or a type and a number; anything else is refused."""
    assert [parse_gpus(text) for text in (4, "4", "a100:4", "a:b:2")] == [(4, None), (4, None), (4, "a100"), (2, "a:b")]
    for wrong in ("", ":4", "a100", "a100:", "-1", "1.5"):
        with pytest.raises(UsageError, match="--gpus-per-node"):
            parse_gpus(wrong)


def test_further_options_of_sbatch() -> None:
    """Values may hold equals signs, a flag has none, and dashes may be left off or be underscores."""
    given = ["reservation=big", "exclusive", "--mail-type=END", "gpu_bind=single:1", "comment=a=b"]
    assert parse_slurm_settings(given) == {
        "reservation": "big",
        "exclusive": True,
        "mail-type": "END",
        "gpu-bind": "single:1",
        "comment": "a=b",
    }


@pytest.mark.parametrize(
    "setting", ["array=0-3", "job_name=x", "time=5", "requeue", "signal=USR2@5", "nodes=2", "N=2", "a b=1", "=x"]
)
def test_options_that_would_break_what_depends_on_ours(setting: str) -> None:
    """Options that name tasks, logs and signals are ours to set, and short ones could be any of them."""
    with pytest.raises(UsageError, match="--slurm"):
        parse_slurm_settings([setting])


def test_choices() -> None:
    """Only what there is can be chosen; not to choose is fine."""
    assert [check_cluster(name) for name in (None, "auto", "slurm", "local")] == [None, "auto", "slurm", "local"]
    assert [check_tars_per_gpu(text) for text in (None, "auto", "3")] == [None, "auto", 3]
    assert [check_gpu_request(name) for name in (None, "gres", "none")] == [None, "gres", "none"]
    with pytest.raises(UsageError, match="--cluster"):
        check_cluster("pbs")
    with pytest.raises(UsageError, match="--gpu-request"):
        check_gpu_request("tres")
    for wrong in ("0", "-1", "many", "1.5"):
        with pytest.raises(UsageError, match="--tars-per-gpu"):
            check_tars_per_gpu(wrong)


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
            launch = make_launch(site, device="cpu", workers=None, allow_missing_end=False, environment={"PATH": ""})
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

    def test_how_long_a_clip_may_take(self, tmp_path: Path) -> None:
        """By default what fits it; a site's seconds, and a person's above them, 0 among those."""
        assert launch_of(Site(), device="cpu").clip_timeout is None
        site = site_defaults([self.write(tmp_path, "clip_timeout: 900\n")])
        assert launch_of(site, device="cpu").clip_timeout == 900.0
        assert launch_of(overlay(site, Site(clip_timeout=0.0)), device="cpu").clip_timeout == 0.0

    @pytest.mark.parametrize(("text", "size"), [("1G", 10**9), ("1.5GiB", 3 << 29), ("2000000", 2_000_000)])
    def test_how_the_device_is_fed(self, text: str, size: int, tmp_path: Path) -> None:
        """Threads and memory of a worker, as the command line takes them."""
        site = site_defaults([self.write(tmp_path, f"decode_threads: 6\nbuffer_memory: {text}\n")])
        launch = launch_of(site, device="cpu")
        assert (launch.decode_threads, launch.buffer_memory) == (6, size)
        assert launch.memory_guard is None
        for text_of_guard, guard in (("0", 0.0), ("0.8", 0.8), ("1", 1.0)):
            site = site_defaults([self.write(tmp_path, f"memory_guard: {text_of_guard}\n")])
            assert launch_of(site, device="cpu").memory_guard == guard
            assert launch_of(overlay(site, Site(memory_guard="0.5")), device="cpu").memory_guard == 0.5
        launch = launch_of(overlay(site, Site(decode_threads="auto", buffer_memory="3G")), device="cpu")
        assert (launch.decode_threads, launch.buffer_memory) == ("auto", 3 * 10**9)
        assert (launch_of(Site(), device="cpu").decode_threads, launch_of(Site(), device="cpu").buffer_memory) == (
            "auto",
            None,
        )

    def test_what_is_asked_for_comes_before_what_the_site_says(self) -> None:
        """Single values are replaced; setup lines and further options add up, the person's last."""
        site = Site(partition="a", account="b", setup=("one",), slurm={"reservation": "x", "mem": "1G"})
        asked = Site(partition="c", setup=("two",), slurm={"mem": "2G"})
        both = overlay(site, asked)
        assert (both.partition, both.account, both.setup) == ("c", "b", ("one", "two"))
        assert both.slurm == {"reservation": "x", "mem": "2G"}


def launch_of(site: Site, path: str = "", device: str = "auto", **settings: object) -> Launch:
    given: dict = {"workers": None, "allow_missing_end": False, "environment": {"PATH": path}, **settings}
    return make_launch(site, device=device, **given)


@pytest.fixture
def with_sbatch(tmp_path: Path) -> str:
    """A PATH with an sbatch on it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    return str(tmp_path / "bin")


class TestLaunch:
    def test_slurm_where_there_is_sbatch(self, with_sbatch: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """`auto` looks for sbatch on the PATH that tasks will have; asking for one of the two is asking for that one."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert launch_of(Site(), with_sbatch).cluster == "slurm"
        assert launch_of(Site(), "").cluster == "local"
        assert launch_of(Site(cluster="local"), with_sbatch).cluster == "local"
        assert launch_of(Site(cluster="slurm"), "").cluster == "slurm"

    def test_a_login_node_need_not_have_gpus(self, with_sbatch: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """On Slurm the device is a GPU unless the CPU is asked for, whatever there is where one submits."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        shapes = [
            launch_of(Site(gpus_per_node=gpus), with_sbatch, device=device)
            for gpus, device in ((None, "auto"), ("a100:4", "cuda"), (None, "cpu"), (4, "cpu"))
        ]
        assert [(one.device, one.gpus_per_node, one.gpu_type, one.processes) for one in shapes] == [
            ("cuda", 1, None, 1),
            ("cuda", 4, "a100", 4),
            ("cpu", 0, None, 1),
            ("cpu", 4, None, 4),
        ]

    def test_a_backend_without_use_for_a_gpu(self, with_sbatch: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Gets none unless somebody asks for one, on Slurm or here."""
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        shapes = [
            launch_of(site, with_sbatch, device=device, uses_gpu=False)
            for site, device in (
                *((Site(), "auto"), (Site(cluster="local"), "auto")),
                *((Site(), "cuda"), (Site(gpus_per_node=2), "auto")),
            )
        ]
        assert [(one.device, one.gpus_per_node) for one in shapes] == [("cpu", 0), ("cpu", 0), ("cuda", 1), ("cuda", 2)]

    def test_what_does_not_fit_together(self, with_sbatch: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """GPUs that are asked for and not asked for, or a device that does not exist, are refused at once."""
        with pytest.raises(UsageError, match="--device cpu"):
            launch_of(Site(gpus_per_node=0), with_sbatch)
        with pytest.raises(UsageError, match="--device"):
            launch_of(Site(), with_sbatch, device="tpu")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        with pytest.raises(UsageError, match="--device cuda"):
            launch_of(Site(cluster="local"), device="cuda")

    def test_round_trips(self) -> None:
        """What is kept in the run directory is what was said."""
        launch = launch_of(
            Site(
                cluster="slurm",
                time="1-0",
                tars_per_gpu="auto",
                setup=("a", "b"),
                slurm={"x": True, "y": 1, "z": "s"},
                max_running=7,
            )
        )
        assert msgspec.json.decode(msgspec.json.encode(launch), type=Launch) == launch
        assert launch.time_limit_min == 24 * 60
