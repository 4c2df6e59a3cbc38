"""The batch job of a process, and the answers of schedulers."""

from __future__ import annotations

import pytest

from gapfactory.errors import ServiceError
from launchpad.queue.batch import BatchJob
from launchpad.sites import schedulers
from launchpad.sites.schedulers import ended_jobs


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, ("slurm", "", "7")),
        ({"SLURM_JOB_ID": "7", "SLURM_CLUSTER_NAME": "big"}, ("slurm", "cluster:big", "7")),
        (
            {"SLURM_JOB_ID": "7", "GAPFACTORY_SITE_ID": "a-1", "SLURM_CLUSTER_NAME": "big"},
            ("slurm", "site:a-1", "7"),
        ),
        ({"PBS_JOBID": "12[3].head", "GAPFACTORY_SITE_ID": "a-1"}, ("pbs", "site:a-1", "12[3].head")),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "0"}, ("lsf", "", "5")),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "2"}, ("lsf", "", "5[2]")),
        ({"JOB_ID": "5", "SGE_TASK_ID": "undefined"}, ("sge", "", "5")),
        ({"JOB_ID": "5", "SGE_TASK_ID": "4"}, ("sge", "", "5.4")),
        # set by many things that are no scheduler
        ({"JOB_ID": "5"}, None),
        # a pilot of a plain shell, started from inside a job: it does not end with it
        ({"SLURM_JOB_ID": "7", "GAPFACTORY_SCHEDULER": "shell", "GAPFACTORY_SITE_ID": "a-1"}, None),
        ({"SLURM_JOB_ID": "7", "PBS_JOBID": "8.x", "GAPFACTORY_SCHEDULER": "pbs"}, ("pbs", "", "8.x")),
    ],
)
def test_job_of_a_process(environment, wanted):
    job = BatchJob.current(environment)
    assert job == (BatchJob(*wanted) if wanted else None)
    assert BatchJob.from_document(job.document() if job else None) == job


ANSWERS = [
    (
        "slurm",
        ["1", "2", "3", "4"],
        0,
        "1|RUNNING\n2|CANCELLED\n3|COMPLETING\n",
        "",
        {"2": "CANCELLED", "4": "gone"},
    ),
    ("slurm", ["1"], 1, "", "slurm_load_jobs error: Invalid job id specified", {"1": "gone"}),
    ("slurm", ["1"], 1, "", "slurm_load_jobs error: Unable to contact slurm controller", None),
    ("slurm", ["1", "2"], 1, "", "Invalid job id specified", None),
    (
        "pbs",
        ["1.h", "2.h", "3[4].h", "5.h", "6.h"],
        153,
        "Job id  Name  User  Time Use S Queue\n-----\n1.h  n  u  00:01 R q\n3[4].h  n  u  00:01 F q\n",
        "qstat: Unknown Job Id 2.h\nqstat: 5.h Job has finished, use -x or -H to obtain historical job information\n",
        {"2.h": "gone", "3[4].h": "F", "5.h": "gone"},
    ),
    ("pbs", ["1.h"], 111, "", "Connection refused\nqstat: cannot connect to server h (errno=111)", None),
    (
        "lsf",
        ["1", "2[3]", "4"],
        255,
        "1 0 RUN\n2 3 EXIT\n",
        "Job <4> is not found\n",
        {"2[3]": "EXIT", "4": "gone"},
    ),
    ("lsf", ["1"], 255, "", "LSF is down. Please wait ...", None),
    (
        "sge",
        ["1", "2", "3.1", "3.2", "3.3"],
        0,
        (
            "job-ID  prior name user state submit/start at queue slots ja-task-ID\n----\n"
            "1 0.5 n u r 11/20/2026 10:00:00 q@h 1\n3 0.5 n u r 11/20/2026 10:00:00 q@h 1 1\n"
            "3 0.5 n u qw 11/20/2026 10:00:00 1 3-9:1\n"
        ),
        "",
        {"2": "gone"},
    ),
    ("sge", ["1"], 0, "", "", {"1": "gone"}),
    ("sge", ["1"], 1, "", "error: commlib error: got select error (Connection refused)", None),
]


@pytest.mark.parametrize(("scheduler", "ids", "code", "out", "err", "wanted"), ANSWERS)
def test_answers(monkeypatch, scheduler, ids, code, out, err, wanted):
    monkeypatch.setattr(schedulers, "_run", lambda *_: (code, out, err))
    if wanted is None:
        with pytest.raises(ServiceError, match="failed: "):
            ended_jobs(scheduler, ids, patience_s=1.0)
        return
    wanted = {job: "not in its queue" if word == "gone" else word for job, word in wanted.items()}
    assert ended_jobs(scheduler, ids, patience_s=1.0) == wanted
    sure = {job: word for job, word in wanted.items() if word != "not in its queue"}
    assert ended_jobs(scheduler, ids, patience_s=1.0, absent=False) == sure


def test_a_command_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="squeue cannot be run here"):
        ended_jobs("slurm", ["1"], patience_s=1.0)
