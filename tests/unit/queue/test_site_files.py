"""Site directories: what is asked of each scheduler, who can read the password, and the pilot's sense of time."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fireworks.core.fworker import FWorker
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
from ruamel.yaml import YAML

from gapfactory.errors import InputError
from launchpad.sites import Site, read_uri, write_site
from launchpad.sites.shell import ShellAdapter
from launchpad.sites.write import read_identity

URI = "mongodb://me:very-secret@db.example.org:27017/group"

WANTED = {
    "slurm": [
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=16G",
        "#SBATCH --partition=main",
        "#SBATCH --account=proj",
        "#SBATCH --time=48:30:00",
        "#SBATCH --signal=B:TERM@60",
    ],
    "pbs": [
        "#PBS -l select=1:ncpus=8:mem=16gb",
        "#PBS -l walltime=48:30:00",
        "#PBS -q main",
        "#PBS -A proj",
    ],
    "lsf": ["#BSUB -n 8", "#BSUB -M 16G", "#BSUB -W 48:30", "#BSUB -q main", "#BSUB -P proj"],
    "sge": ["#$ -pe smp 8", "#$ -l h_vmem=2048M", "#$ -l h_rt=48:30:00", "#$ -q main", "#$ -A proj"],
    "shell": [],
}


def made(directory: Path, scheduler: str = "slurm", **more) -> Path:
    return write_site(directory / "a site", Site(scheduler=scheduler, **more), URI)


def adapter_of(place: Path, name: str = "my_qadapter.yaml"):
    content = YAML(typ="safe", pure=True).load((place / name).read_text())
    kind = ShellAdapter if "shell" in content["_fw_name"] else CommonAdapter
    return kind.from_dict(content)


@pytest.mark.parametrize("scheduler", sorted(WANTED))
def test_job_scripts_ask_for_what_was_wanted(scheduler: str, tmp_path: Path) -> None:
    place = made(
        tmp_path, scheduler, cores=8, memory_gb=16, walltime="48:30:00", queue="main", account="proj"
    )
    adapter = adapter_of(place)
    script = adapter.get_script_str(str(tmp_path))  # FireWorks warns about a key that is not in the template
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert not [line for line in WANTED[scheduler] if line not in lines], script
    assert "$$" not in script
    assert f"exec '{place}/pilot.sh'" in lines, "a path with a blank is quoted"
    assert "gf-gapfactory" in script
    assert adapter_of(place, "my_qadapter_reserve.yaml")["rocket_launch"].endswith("pilot.sh' singleshot")
    # the way of qlaunch, which makes a copy by this
    assert type(adapter).from_dict(adapter.to_dict()).get_script_str(str(tmp_path)) == script
    # schedulers show the environment of jobs to everybody
    assert not any(line.startswith(("#PBS -V", "#$ -V", "#BSUB -env", "#SBATCH --export")) for line in lines)
    assert FWorker.from_file(str(place / "my_fworker.yaml")).category == ""


def test_what_the_scheduler_is_not_asked_for_is_not_in_the_script(tmp_path: Path) -> None:
    script = adapter_of(made(tmp_path)).get_script_str(str(tmp_path))
    directives = [
        line.split("=")[0].split()[-1] for line in script.splitlines() if line.startswith("#SBATCH")
    ]
    assert directives == [
        *("--nodes", "--ntasks", "--cpus-per-task", "--time", "--signal", "--job-name", "--output"),
        "--no-requeue",
    ]


def test_categories_reach_both_launchers(tmp_path: Path) -> None:
    place = made(tmp_path, categories=("fit", "select"))
    worker = FWorker.from_file(str(place / "my_fworker.yaml"))
    assert worker.query["spec._category"] == {"$in": ["fit", "select"]}
    assert "categories='fit select'" in (place / "site.conf").read_text()


def test_each_site_has_an_id_of_its_own(tmp_path: Path) -> None:
    """Its jobs are known by it in the database, whatever other clusters call theirs."""
    first, second = (made(tmp_path / name, name="labels") for name in ("a", "b"))
    assert read_identity(first)[0] == "slurm"
    ids = [read_identity(place)[1] for place in (first, second)]
    assert len(set(ids)) == 2
    assert all(name.startswith("labels-") for name in ids)
    # by this name the reservations of qlaunch are found
    assert [FWorker.from_file(str(p / "my_fworker.yaml")).name for p in (first, second)] == ids
    (first / "site.conf").write_text("python=x\n")
    with pytest.raises(InputError, match="has no site_id: make the site again"):
        read_identity(first)


def test_the_password_is_in_one_file_for_its_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        place = made(tmp_path)
    finally:
        os.umask(before)
    files = [path for path in place.rglob("*") if path.is_file()]
    assert [path.name for path in files if "very-secret" in path.read_text()] == ["my_launchpad.yaml"]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in [place, *place.rglob("*")]} == {0}
    assert read_uri(place) == URI
    (place / "my_launchpad.yaml").chmod(0o640)
    with pytest.raises(InputError, match="chmod 600"):
        read_uri(place)


def test_directories_are_not_overwritten(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(InputError, match="is not empty"):
        made(tmp_path)
    with pytest.raises(InputError, match="no site directory"):
        read_uri(tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scheduler": "pbs"}, "FireWorks counts the jobs of pbs"),
        ({"scheduler": "slurm", "walltime": "2 h"}, "HH:MM:SS"),
        ({"scheduler": "slurm", "walltime": None}, "needs one"),
        ({"scheduler": "slurm", "walltime": "00:02:00"}, "less than a minute"),
        ({"scheduler": "slurm", "queue": "a; rm -r x"}, "letters, digits"),
        ({"scheduler": "slurm", "scratch": "$(rm -r x)"}, "an absolute path"),
        ({"scheduler": "slurm", "name": "../x"}, "name"),
    ],
)
def test_bad_sites_are_refused(given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Site(**given)


# ---------------------------------------------------------------------------------------------------- pilot.sh


@pytest.fixture
def pilot(tmp_path: Path):
    """Run the pilot of a site whose Python only says how it was called; return what it said."""
    place = made(tmp_path, categories=("fit", "select"), workers=3, idle_minutes=7.5)
    stand_in = tmp_path / "bin" / "python"
    stand_in.parent.mkdir()
    stand_in.write_text(
        "#!/bin/bash\n"
        'if [[ "$*" == *" site database "* ]]; then echo "mongodb://from-the-file"; exit; fi\n'
        'echo "CALL $* DB=$GAPFACTORY_DB END=${GAPFACTORY_JOB_END:-none} SCRATCH=$GAPFACTORY_SCRATCH"\n'
        'if [[ -n "${WAIT:-}" ]]; then trap "echo drained; exit 0" TERM; for _ in {1..300}; do sleep 0.1; done; fi\n'
    )
    rlaunch = stand_in.parent / "rlaunch"
    rlaunch.write_text('#!/bin/bash\necho "RLAUNCH $*"\n')
    for program in (stand_in, rlaunch):
        program.chmod(0o755)
    conf = place / "site.conf"
    conf.write_text(conf.read_text().replace(sys.executable, str(stand_in)))

    def run(*arguments: str, conf_lines: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        if conf_lines:
            conf.write_text(conf.read_text() + conf_lines)
        return subprocess.run(
            ["bash", str(place / "pilot.sh"), *arguments],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    run.place = place
    return run


def test_pilot_starts_workers_as_the_site_says(pilot) -> None:
    stale = {"GAPFACTORY_DB": "mongodb://other", "GAPFACTORY_JOB_END": "12", "GAPFACTORY_SCRATCH": "/nowhere"}
    done = pilot(GAPFACTORY_WALLTIME="24:00:00", SLURM_JOB_ID="77", **stale)
    assert done.returncode == 0, done.stderr
    said = next(line for line in done.stdout.splitlines() if line.startswith("CALL"))
    assert (
        "-m launchpad.cli worker start --number 3 --idle-minutes 7.5 --cores 1 --category fit --category select "
        in said
    )
    assert "DB=mongodb://from-the-file" in said
    end = int(said.split("END=")[1].split()[0])
    assert abs(end - time.time() - 86400) < 120
    scratch = Path(said.split("SCRATCH=")[1])
    assert scratch.is_relative_to(pilot.place / "scratch")
    assert "-77-" in scratch.name
    # what must outlive a disk of the node
    assert (scratch / "spool").resolve() == pilot.place / "spool"
    assert (scratch / "logs").resolve().parent == pilot.place / "logs"


@pytest.mark.parametrize(
    ("text", "seconds"), [("0:10:00", 600), ("1-00:00:09", 86409), ("08:09", 29340), ("100:00:00", 360000)]
)
def test_pilot_reads_the_schedulers_times(pilot, text: str, seconds: int) -> None:
    done = pilot(GAPFACTORY_WALLTIME=text)
    end = int(done.stdout.split("END=")[1].split()[0])
    assert abs(end - time.time() - seconds) < 60


def test_pilot_believes_an_earlier_end_of_slurm(pilot) -> None:
    told = int(time.time()) + 1000
    assert f"END={told}" in pilot(GAPFACTORY_WALLTIME="1:00:00", SLURM_JOB_END_TIME=str(told)).stdout
    # left over from another job, or later than what this one asked for
    assert f"END={told}" not in pilot(GAPFACTORY_WALLTIME="0:10:00", SLURM_JOB_END_TIME=str(told)).stdout
    assert "END=none" in pilot(SLURM_JOB_END_TIME="1000").stdout


def test_pilot_stops_its_workers_before_the_end(pilot) -> None:
    done = pilot(GAPFACTORY_WALLTIME="0:05:00", WAIT="1", conf_lines="stop_before_s=298\n")
    assert done.returncode == 0, done.stderr
    assert "drained" in done.stdout


def test_pilot_hands_on_what_its_workers_are_enrolled_for(pilot, tmp_path: Path, monkeypatch) -> None:
    """Patterns are for names of campaigns: files of such names must not replace them."""
    site = made(tmp_path / "another", campaigns=("boron-*", "si?"), allowed=("mine.*",))
    lines = [line for line in (site / "site.conf").read_text().splitlines() if "=(" in line]
    monkeypatch.chdir(tmp_path)
    for name in ("boron-1", "si2", "mine.py"):
        (tmp_path / name).touch()
    done = pilot(conf_lines="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    assert " --campaign boron-* --campaign si? --allow mine.* " in done.stdout
    with pytest.raises(ValueError, match="a name, or a pattern"):
        Site(scheduler="slurm", campaigns=("$(rm -r x)",))


def test_pilot_refuses_what_cannot_work(pilot) -> None:
    done = pilot(GAPFACTORY_WALLTIME="0:01:00")
    assert done.returncode == 1
    assert "ask for more" in done.stderr
    done = pilot(GAPFACTORY_WALLTIME="tomorrow")
    assert done.returncode == 1
    assert "not HH:MM:SS" in done.stderr
    assert "CALL" not in done.stdout


def test_pilot_runs_one_reserved_firework(pilot) -> None:
    done = pilot("singleshot", "--fw_id", "7", GAPFACTORY_WALLTIME="1:00:00")
    place = pilot.place
    assert (
        done.stdout
        == f"RLAUNCH -l {place}/my_launchpad.yaml -w {place}/my_fworker.yaml singleshot --fw_id 7\n"
    )


def test_pilot_script_is_clean(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "shellcheck"
    found = str(program) if program.exists() else shutil.which("shellcheck")
    if found is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [found, str(made(tmp_path) / "pilot.sh")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout
