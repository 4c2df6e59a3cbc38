"""Does one relax task as a worker would, in a process that can be killed; prints how many geometries it evaluated."""

import sys
from pathlib import Path
from types import SimpleNamespace

from gapfactory.potentials.gap.calculator import GapCalculator
from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.connection import open_database
from launchpad.tasks.base import TaskContext
from launchpad.tasks.relax import RelaxTask

uri, campaign, stop = sys.argv[1], sys.argv[2], int(sys.argv[3])
evaluated, evaluate = 0, GapCalculator.evaluate_batch


def counting(self, structures):
    global evaluated
    evaluated += len(structures)
    return evaluate(self, structures)


GapCalculator.evaluate_batch = counting
database = open_database(uri)
context = TaskContext(
    SimpleNamespace(db=database), campaign_of(require_campaign(database, campaign)), 1, Path.cwd()
)
RelaxTask(campaign=campaign, generation=1, start=0, stop=stop).work(context)
print(evaluated)
