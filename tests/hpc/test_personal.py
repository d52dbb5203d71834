"""hpc/personal.py: what a person has set for every sbatch reaches ours too, also from cron, and is the weakest word."""

from __future__ import annotations

from hpc.launch import make_launch
from hpc.launch_options import LaunchOptions, Site, overlay
from hpc.personal import personal_defaults


def test_counts_least() -> None:
    """SBATCH_PARTITION and the like are defaults; a site's file and the command line win over them."""
    mine = personal_defaults({"SBATCH_PARTITION": "mine", "SBATCH_ACCOUNT": "me", "SBATCH_QOS": "", "SBATCH_JOB_NAME": "x"})
    site = overlay(overlay(mine, Site(partition="site", qos="normal")), Site(qos="high"))
    assert (site.partition, site.account, site.qos, site.slurm) == ("site", "me", "high", {})


def test_further_options() -> None:
    """Each as the option that it stands for; what would break our arrays, logs and signals is not among them."""
    mine = {
        "SBATCH_RESERVATION": "week",
        "SBATCH_EXCLUSIVE": "1",
        "SBATCH_MEM_PER_NODE": "10G",
        "SBATCH_ARRAY_INX": "0-9",
        "SBATCH_OUTPUT": "/tmp/%j",
        "SBATCH_REQUEUE": "1",
        "SBATCH_WAIT": "1",
        "RESERVATION": "x",
    }
    assert personal_defaults(mine).slurm == {"reservation": "week", "exclusive": True, "mem": "10G"}


def test_clusters_are_kept_with_the_run() -> None:
    """Under either name; cron, which has no such variable, asks the same clusters."""
    for name in ("SLURM_CLUSTERS", "SBATCH_CLUSTERS"):
        asked = overlay(personal_defaults({name: "a,b"}), LaunchOptions(cluster="slurm", device="cpu"))
        launch = make_launch(asked, environment={})
        assert (launch.clusters, launch.slurm) == ("a,b", {"clusters": "a,b"})
    assert overlay(personal_defaults({"SLURM_CLUSTERS": "a"}), Site(slurm={"clusters": "b"})).slurm == {"clusters": "b"}


def test_gpus() -> None:
    """A request for GPUs is a number that plans are made with, and a way to ask; other resources stay as they are."""
    mine = personal_defaults({"SBATCH_GRES": "gpu:a100:4", "SBATCH_CPUS_PER_GPU": "8", "SBATCH_MEM_PER_GPU": "40G"})
    assert (mine.gpus_per_node, mine.gpu_request, mine.cpus_per_gpu, mine.mem_per_gpu) == ("a100:4", "gres", 8, "40G")
    assert mine.slurm == {}
    assert personal_defaults({"SBATCH_GRES": "tmp:5G"}).slurm == {"gres": "tmp:5G"}
    assert personal_defaults({"SBATCH_GPUS_PER_NODE": "2"}).gpus_per_node == "2"


def test_memory_is_asked_for_once() -> None:
    """What is said later, in whatever unit, takes the place of what was said before: sbatch takes one of the three."""
    mine = personal_defaults({"SBATCH_MEM_PER_CPU": "4G", "SBATCH_HINT": "nomultithread"})
    assert overlay(mine, Site(mem_per_gpu="40G")).slurm == {"hint": "nomultithread"}
    site = overlay(Site(mem_per_gpu="40G"), Site(slurm={"mem": "100G"}))
    assert (site.mem_per_gpu, site.slurm) == (None, {"mem": "100G"})
