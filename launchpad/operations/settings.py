"""What an operator sets for a group: how long things are kept, how much there may be, who is told."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads the annotations
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from gapfactory.settings import Settings

__all__ = [
    "EVENTS",
    "KINDS",
    "Event",
    "MailSettings",
    "NoticeSettings",
    "Quota",
    "RetentionPolicy",
    "Rule",
    "SearchRule",
    "TargetSettings",
    "WebhookSettings",
]

#: What a policy has a rule for, in the order in which it is dealt with.
KINDS = ("trajectories", "searches", "cells", "launches", "label_files", "potentials", "journal")

Event = Literal["done", "halted", "cancelled", "stalled", "workers-gone", "quota", "gave-up"]
#: What people can be told of.
EVENTS: Final[tuple[Event, ...]] = (
    "done",
    "halted",
    "cancelled",
    "stalled",
    "workers-gone",
    "quota",
    "gave-up",
)


class Rule(Settings):
    """What becomes of one kind of data, and when."""

    after_days: float | None = Field(default=None, ge=0)
    """Days after the end of its campaign; none: it is kept for ever."""

    action: Literal["archive", "delete"] = "archive"
    """`archive` writes it into a file that `gapfactory db restore` brings back; `delete` does not."""


class SearchRule(Rule):
    """What of a diagnostic search keeps its geometry."""

    after_days: float | None = Field(default=None, ge=0)
    """Days after the assessment of its generation, whether or not the campaign has ended (0: at once); none: all of it
    is kept."""

    within: float = Field(default=0.2, ge=0)
    """Structures so far above the lowest of their composition in their search keep it, in eV/atom."""


class RetentionPolicy(Settings):
    """How long what nobody needs any more is kept. The default keeps everything."""

    trajectories: Rule = Rule()
    """Frames of relaxations. Those that were chosen are structures of their own, and stay."""

    searches: SearchRule = SearchRule()
    """Frames of relaxations of diagnostic searches (components with `labelled: false`) but those of the best of each
    composition. The others keep energies, volume and space group, so that rankings and densities still count them."""

    cells: Rule = Rule()
    """Atoms of random cells that were not chosen."""

    launches: Rule = Rule()
    """What completed and superseded launches left: stored data, tracebacks, trackers."""

    label_files: Rule = Rule()
    """Ends of the files, and custodian's record, of calculations that failed."""

    potentials: Rule = Rule()
    """Files of potentials of earlier generations."""

    journal: Rule = Rule()
    """Ids of the tasks of each generation, kept with the key that keeps it from being submitted twice."""

    keep_potentials: int = Field(default=2, ge=1)
    """So many potentials of a campaign, the newest, stay. An unfinished campaign keeps two at least."""

    keep_generations: int | None = Field(default=None, ge=0)
    """In campaigns that have not ended, trajectories, cells and potentials of all but so many generations, the newest,
    go at once, whatever `after_days` says; none: a campaign that has not ended is left alone."""

    workers_days: float | None = Field(default=None, ge=0)
    """Records of workers that ended, or have been silent, for so many days are deleted; none: never."""

    failed_launches_days: float | None = Field(default=None, ge=0)
    """Directories of failed launches below this host's scratch that are older are deleted; none: never."""


class Quota(Settings):
    """How much a group may have; none: no limit."""

    structures: int | None = Field(default=None, ge=0)
    """Structures stored: cells, chosen frames, atoms and dimers."""

    labels: int | None = Field(default=None, ge=0)
    """Reference calculations with a result."""

    gigabytes: float | None = Field(default=None, ge=0)
    """Size of the documents and files in the database (GB, 1e9 bytes)."""

    core_hours: float | None = Field(default=None, ge=0)
    """Time that completed tasks took, one core each (h)."""

    warn_at: float = Field(default=0.8, gt=0, le=1)
    """Share of a limit from which on people are warned."""


class MailSettings(Settings):
    """A mail server and whom to write to."""

    host: str
    """Name of the server."""

    port: int = Field(default=587, ge=1, le=65535)
    """587 for `starttls`, 465 for `ssl`."""

    security: Literal["starttls", "ssl", "none"] = "starttls"
    """How the connection is encrypted. A password is sent over an encrypted one only."""

    ca_file: Path | None = None
    """Certificate of an authority of one's own that the server is verified by."""

    user: str | None = None
    """Who logs in; none: nobody does."""

    password_file: Path | None = None
    """File with the password; not open to everybody."""

    password_env: str | None = None
    """Name of the variable of the environment with the password, where there is no file."""

    sender: str
    """Address in From."""

    recipients: tuple[str, ...] = Field(min_length=1)
    """Addresses in To."""

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        given = [name for name in (self.password_file, self.password_env) if name is not None]
        if len(given) > 1 or (self.user is not None) != bool(given):
            msg = "user and one of password_file and password_env belong together"
            raise ValueError(msg)
        if self.user is not None and self.security == "none":
            msg = "a password is not sent over a connection without encryption: security must be starttls or ssl"
            raise ValueError(msg)
        return self


class WebhookSettings(Settings):
    """An address that takes JSON by POST."""

    url: str | None = None
    """The address; one that is a secret by itself belongs into a file."""

    url_file: Path | None = None
    """File with the address; not open to everybody."""

    secret_file: Path | None = None
    """File with the key of the signature (HMAC-SHA256 of the body, in `X-Gapfactory-Signature`); none: not signed."""

    ca_file: Path | None = None
    """Certificate of an authority of one's own that the server is verified by."""

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.url is None) == (self.url_file is None):
            msg = "give one of url and url_file"
            raise ValueError(msg)
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            msg = f"url must begin with https:// or http://, not {self.url.split(':')[0]!r}"
            raise ValueError(msg)
        return self


class TargetSettings(Settings):
    """Somebody who is told."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")
    """For logs and the database, which never hold an address or a secret."""

    events: tuple[Event, ...] = EVENTS
    """What this target is told of."""

    mail: MailSettings | None = None
    """By mail, or"""

    webhook: WebhookSettings | None = None
    """by a request to an address."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.mail is None) == (self.webhook is None):
            msg = f"target {self.name!r} must have one of mail and webhook"
            raise ValueError(msg)
        return self


class NoticeSettings(Settings):
    """Who is told of what. Times are in seconds."""

    targets: tuple[TargetSettings, ...] = Field(min_length=1)
    """Whom to tell."""

    every_s: float = Field(default=30.0, gt=0)
    """Pause between two looks at the database."""

    stalled_after_s: float = Field(default=3600.0, gt=0)
    """A campaign with open tasks of which none has ended for this long is said to stall."""

    workers_gone_after_s: float = Field(default=600.0, gt=0)
    """There are tasks to be done and no worker for this long."""

    quota_every_s: float = Field(default=300.0, gt=0)
    """How often the use of quotas is measured."""

    send_limit_s: float = Field(default=20.0, gt=0)
    """How long a receiver may take to answer."""

    retry_first_s: float = Field(default=30.0, gt=0)
    """Pause after the first failed try; it doubles after each."""

    retry_largest_s: float = Field(default=3600.0, gt=0)
    """Largest pause between two tries."""

    give_up_after_s: float = Field(default=3 * 86_400.0, gt=0)
    """A notice that could not be sent for this long is not tried again."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [target.name for target in self.targets]
        if len(set(names)) != len(names):
            msg = f"two targets have the same name: {', '.join(names)}"
            raise ValueError(msg)
        return self
