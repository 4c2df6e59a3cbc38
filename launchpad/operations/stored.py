"""Settings of the operator: read from a file, or stored for a group and its campaigns (collection ``operations``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from gapfactory.errors import InputError
from launchpad.operations.settings import Quota, RetentionPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pymongo.database import Database

    from gapfactory.settings import Settings

__all__ = ["load_settings", "policies_of", "quota_of", "store_policy", "store_quota", "stored_policies"]

Model = TypeVar("Model", bound="Settings")


def load_settings(path: Path, model: type[Model]) -> Model:
    """Read settings from a YAML file.

    Raises
    ------
    InputError
        It cannot be read, or a key or value cannot be used.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        msg = f"{path} cannot be read: {error}"
        raise InputError(msg) from error
    return _validated(content or {}, model, str(path))


def _validated(content: Mapping[str, Any], model: type[Model], where: str) -> Model:
    from pydantic import ValidationError

    try:
        return model.model_validate(content)
    except ValidationError as error:
        # the value itself may be a secret that stands in the wrong place
        found = [
            f"{'.'.join(str(part) for part in entry['loc']) or 'it'}: {entry['msg']}"
            for entry in error.errors(include_url=False, include_input=False)
        ]
        msg = f"{where} cannot be used: {'; '.join(found[:3])}"
        # the cause would show the values
        raise InputError(msg) from None


def stored_policies(database: Database[Any]) -> tuple[RetentionPolicy, dict[str, RetentionPolicy]]:
    """Return the policy of the group and those of single campaigns.

    Raises
    ------
    InputError
        They were stored by a version that has other settings.
    """
    found = database.operations.find_one({"_id": "retention"}) or {}
    group = _validated(found.get("policy", {}), RetentionPolicy, "the stored policy")
    return group, {
        name: _validated(policy, RetentionPolicy, f"the stored policy of campaign {name!r}")
        for name, policy in found.get("campaigns", {}).items()
    }


def policies_of(
    database: Database[Any], given: RetentionPolicy | None = None
) -> Callable[[str], RetentionPolicy]:
    """Return the policy of a campaign by its name: the given one, else its own, else that of the group."""
    if given is not None:
        return lambda name: given
    group, own = stored_policies(database)
    return lambda name: own.get(name, group)


def store_policy(
    database: Database[Any], policy: RetentionPolicy | None, campaign: str | None = None
) -> None:
    """Store the policy of the group, or of a campaign; none takes it away."""
    from launchpad.database.audit import audit

    audit(database, "retention.policy", campaign=campaign, policy=policy and policy.model_dump(mode="json"))
    if campaign is None:
        content = {} if policy is None else policy.model_dump(mode="json")
        database.operations.update_one({"_id": "retention"}, {"$set": {"policy": content}}, upsert=True)
        return
    # not by a dotted path: names of campaigns may hold dots
    found = database.operations.find_one({"_id": "retention"}) or {}
    own = {name: old for name, old in found.get("campaigns", {}).items() if name != campaign}
    if policy is not None:
        own[campaign] = policy.model_dump(mode="json")
    database.operations.update_one({"_id": "retention"}, {"$set": {"campaigns": own}}, upsert=True)


def quota_of(database: Database[Any]) -> Quota:
    """Return the quota of the group; without one there is no limit."""
    found = database.operations.find_one({"_id": "quota"}) or {}
    return _validated(found.get("quota", {}), Quota, "the stored quota")


def store_quota(database: Database[Any], quota: Quota) -> None:
    """Store the quota of the group."""
    from launchpad.database.audit import audit

    audit(database, "quota.changed", **quota.model_dump(mode="json"))
    database.operations.update_one(
        {"_id": "quota"}, {"$set": {"quota": quota.model_dump(mode="json")}}, upsert=True
    )
