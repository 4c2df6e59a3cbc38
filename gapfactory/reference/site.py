"""How the programs of reference calculations are run at one site: commands, launchers, cores, scratch.

A site's file belongs to whoever runs the workers. Nothing in a campaign or a database can name a command: it could
run anything on every worker. The file is TOML, ``$GAPFACTORY_SITE`` or ``~/.config/gapfactory/site.toml``::

    [espresso]
    command = ["pw.x"]
    launcher = ["mpirun", "-n", "{processes}"]
    processes = 8
    pseudopotentials = "/data/pseudo/pbe"
    scratch = "/scratch/group"
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pydantic import Field, field_validator

from gapfactory.errors import InputError
from gapfactory.settings import Settings

__all__ = ["SITE_VARIABLE", "ProgramSite", "end_of_allocation", "load_site"]

#: Environment variable that names the site's file.
SITE_VARIABLE = "GAPFACTORY_SITE"

#: Variables in which schedulers, or the user, give the end of the allocation (seconds since 1970).
_END_VARIABLES = ("GAPFACTORY_JOB_END", "SLURM_JOB_END_TIME")

#: No pinning of processes to cores: launchers pin every job of a node to the same first cores otherwise.
_UNPINNED = {
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "I_MPI_PIN": "off",
    "MV2_ENABLE_AFFINITY": "0",
    "OMP_PROC_BIND": "false",
}


class ProgramSite(Settings):
    """How one engine's program is run on the machines of a site."""

    command: tuple[str, ...] = ()
    """The program and its first arguments; empty: the engine's usual program on PATH."""
    launcher: tuple[str, ...] = ()
    """Words before the command, such as mpirun, -n, {processes} or srun, --exact, -n, {processes}, -c, {threads}."""
    processes: int = Field(default=1, ge=1)
    """MPI processes per label; replaces {processes} in the launcher."""
    threads: int = Field(default=1, ge=1)
    """OpenMP threads per process; replaces {threads} in the launcher."""
    share_node: bool = True
    """Several labels may run on one node at the same time: processes are not pinned to cores."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Further environment variables of the program."""
    pseudopotentials: Path | None = None
    """Directory of pseudopotentials or data sets; None: where the system's package puts them."""
    scratch: Path | None = None
    """Directory that all workers of the site see: an interrupted label continues there from its checkpoint. None: the
    task's own directory, and an interrupted label starts again."""
    frozen_after_s: float = Field(default=3600.0, gt=0)
    """Seconds without any change of its files after which a program counts as frozen and is killed."""
    stop_before_s: float = Field(default=120.0, ge=0)
    """Seconds before the end of the allocation at which a program is asked to stop and write its checkpoint."""
    pause_s: float = Field(default=10.0, ge=0)
    """Seconds before a calculation is repeated that met a fault which may pass: no licence, no memory."""
    grace_s: float = Field(default=60.0, ge=0)
    """Seconds that a program has to stop by itself once asked."""

    @field_validator("launcher")
    @classmethod
    def _placeholders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            try:
                word.format(processes=1, threads=1)
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(
                    f"launcher word {word!r}: only {{processes}} and {{threads}} are replaced"
                ) from error
        return value

    @field_validator("pseudopotentials", "scratch")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        # programs run in directories of their own
        return None if value is None else value.expanduser().absolute()

    def prefix(self) -> list[str]:
        """Return the launcher's words with their numbers."""
        return [word.format(processes=self.processes, threads=self.threads) for word in self.launcher]

    def variables(self) -> dict[str, str]:
        """Return the environment variables that the site adds."""
        threads = str(self.threads)
        unpinned = _UNPINNED if self.share_node else {}
        return {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            **unpinned,
            **self.environment,
        }


def load_site(engine: str, path: Path | None = None) -> ProgramSite:
    """Return how an engine is run here; the defaults when the site has no file or says nothing of the engine.

    Parameters
    ----------
    engine
        Name of the engine.
    path
        The site's file; None: `SITE_VARIABLE`, else the user's configuration directory.

    Raises
    ------
    InputError
        The file is named but missing, or cannot be used.
    """
    named = path or (Path(os.environ[SITE_VARIABLE]) if os.environ.get(SITE_VARIABLE) else None)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    file = named or home / "gapfactory" / "site.toml"
    if not file.is_file():
        if named is not None:
            raise InputError(f"the site file {file} does not exist: correct {SITE_VARIABLE} or write it.")
        return ProgramSite()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
        return ProgramSite.model_validate(content.get(engine, {}))
    # what tomllib, pydantic and a wrong encoding raise are all ValueErrors
    except (ValueError, AttributeError, OSError) as error:
        raise InputError(f"the site file {file} cannot be used for engine {engine!r}: {error}") from error


def end_of_allocation() -> float | None:
    """Return when the scheduler ends this process (seconds since 1970), or None when nobody said.

    Raises
    ------
    InputError
        The variable that says so is no number.
    """
    for name in _END_VARIABLES:
        value = os.environ.get(name)
        if value:
            try:
                return float(value)
            except ValueError as error:
                raise InputError(
                    f"{name}={value!r} is not a time in seconds since 1970: correct or unset it."
                ) from error
    return None
