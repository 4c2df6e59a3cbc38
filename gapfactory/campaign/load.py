"""Read a campaign file: presets below, the user's keys above, errors that name the key and the nearest valid one."""

from __future__ import annotations

import difflib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gapfactory.errors import CampaignFileError, UnknownElementError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapfactory.campaign.model import Campaign
    from gapfactory.reference import EngineSettings

__all__ = [
    "campaign_from_mapping",
    "changed_reference",
    "load_campaign",
    "merge",
    "parse_campaign",
    "settings_from",
    "to_yaml",
]


def load_campaign(path: Path | str) -> Campaign:
    """Read a campaign file.

    Raises
    ------
    CampaignFileError
        The file cannot be read, is not YAML, or a key or value in it cannot be used.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"campaign file {path} cannot be read: {error}. 'gapfactory campaign init' writes one."
        raise CampaignFileError(msg) from error
    return parse_campaign(text, default_name=path.stem, directory=path.parent)


def parse_campaign(text: str, *, default_name: str | None = None, directory: Path | None = None) -> Campaign:
    """Turn the text of a campaign file into a campaign.

    Parameters
    ----------
    text
        YAML 1.2.
    default_name
        Name of the campaign if the text gives none.
    directory
        Where files that the text names are found; None: there are none.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        msg = f"the campaign file is not valid YAML: {error}"
        raise CampaignFileError(msg) from error
    if not isinstance(content, dict):
        msg = "the campaign file must hold 'key: value' lines, at least 'element: Si'"
        raise CampaignFileError(msg)
    return campaign_from_mapping(content, default_name=default_name, directory=directory)


def campaign_from_mapping(
    content: Mapping[str, Any], *, default_name: str | None = None, directory: Path | None = None
) -> Campaign:
    """Turn keys and values into a campaign: preset, then the given keys.

    Raises
    ------
    CampaignFileError
        A key is unknown (the nearest valid one is named) or a value cannot be used.
    """
    from gapfactory.campaign.crystals import with_files
    from gapfactory.campaign.model import Campaign

    merged = with_files(_with_reference_preset(_with_preset(content)), directory)
    if merged.get("name") is None:
        what = merged.get("element") or "campaign"
        merged["name"] = default_name or f"{str(what).lower()}-{merged.get('preset') or 'de-novo'}"
    try:
        return Campaign.model_validate(merged)
    except UnknownElementError as error:
        raise CampaignFileError(str(error)) from error
    except ValidationError as error:
        raise CampaignFileError(_explain(error, Campaign)) from error


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` overlaid by `above`, key by key through nested mappings.

    A nested mapping that changes the reference engine replaces the one below as a whole, but for the name of a
    preset that has settings for the new engine too.
    """
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            other_engine = "engine" in value and value["engine"] != old.get("engine")
            result[key] = {**_kept_preset(old, value), **value} if other_engine else merge(old, value)
        else:
            result[key] = value
    return result


def changed_reference(campaign: Campaign, changes: Mapping[str, Any], where: str) -> EngineSettings:
    """Return the reference of a campaign with changes laid over it; with another engine they stand for themselves.

    Raises
    ------
    ValueError
        A key is unknown or a value cannot be used; `where` says in which block.
    """
    from gapfactory.reference import parse_settings

    if not changes:
        return campaign.reference
    elements = {"element": campaign.element, "composition": campaign.composition}
    content = _with_reference_preset({**elements, "reference": settings_from(campaign, changes)})
    try:
        return parse_settings(content["reference"])
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        key = ".".join((where, *(str(part) for part in found["loc"])))
        msg = f"{key}: {found['msg'].removeprefix('Value error, ')}"
        raise ValueError(msg) from error


def settings_from(campaign: Campaign, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reference settings of a campaign with changes laid over them, as a campaign file has them.

    Changes that name another engine replace the settings as a whole.
    """
    old = {"reference": campaign.reference.model_dump(mode="json")}
    if "kpoint_density" in changes and "kpoint_grid" not in changes:
        changes = {**changes, "kpoint_grid": None} if "kpoint_grid" in old["reference"] else changes
    merged: dict[str, Any] = merge(old, {"reference": dict(changes)})["reference"]
    return merged


def _kept_preset(old: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    from gapfactory.reference.presets import REFERENCE_PRESETS

    found = REFERENCE_PRESETS.get(str(old.get("preset")))
    return {"preset": old["preset"]} if found is not None and value["engine"] in found.variants() else {}


def _with_preset(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return content laid over the preset that it names, which may name another one."""
    from gapfactory.campaign.presets import preset

    name = content.get("preset")
    return dict(content) if name is None else merge(_with_preset(preset(str(name))), content)


def _with_reference_preset(content: dict[str, Any]) -> dict[str, Any]:
    """Return the campaign with the papers' settings that its reference names filled in."""
    reference = content.get("reference")
    if not isinstance(reference, dict) or "preset" not in reference:
        return content
    import re

    from gapfactory.errors import InputError
    from gapfactory.reference.presets import expand_preset

    formulas = content.get("composition") or {str(content.get("element") or ""): 1}
    symbols = {symbol for formula in formulas for symbol in re.findall(r"[A-Z][a-z]?", str(formula))}
    try:
        return {**content, "reference": expand_preset(reference, symbols)}
    except InputError as error:
        msg = f"reference.preset: {error}"
        raise CampaignFileError(msg) from error


def to_yaml(content: Mapping[str, Any]) -> str:
    """Return plain data as YAML text."""
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    writer.dump(dict(content), stream)
    return stream.getvalue()


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one line per problem what is wrong, and which key was probably meant."""
    from gapfactory.reference import engine_classes

    lines = []
    for problem in error.errors(include_url=False):
        location = [part for part in problem["loc"] if part not in engine_classes()]
        key = ".".join(str(part) for part in location)
        if problem["type"] == "extra_forbidden":
            *parents, last = location
            fields = _fields(model, parents, problem["loc"])
            near = difflib.get_close_matches(str(last), fields, n=1, cutoff=0.5)
            where = ".".join([*map(str, parents), near[0]]) if near else ""
            hint = f"did you mean {where!r}?" if near else f"valid keys here: {', '.join(sorted(fields))}"
            lines.append(f"unknown key {key!r}; {hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            given = problem.get("input")
            value = f" (given: {given!r})" if key and not isinstance(given, dict | BaseModel) else ""
            lines.append(f"{key + ': ' if key else ''}{message}{value}")
    return "the campaign file cannot be used:\n  " + "\n  ".join(lines)


def _fields(model: type[BaseModel], parents: Sequence[Any], location: Sequence[Any]) -> list[str]:
    """Return the valid keys of the nested model at `parents`."""
    current: Any = model
    for part in parents:
        if get_origin(current) is dict:
            # a name that the file gives
            current = get_args(current)[1]
            continue
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return []
        field = current.model_fields.get(str(part))
        if field is None:
            return []
        if get_origin(field.annotation) is dict:
            current = field.annotation
            continue
        candidates = [field.annotation, *_flatten(field.annotation)]
        models = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        tagged = [
            m for m in models if "engine" in m.model_fields and m.model_fields["engine"].default in location
        ]
        chosen = tagged or models
        if not chosen:
            return []
        current = chosen[0]
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []


def _flatten(annotation: Any) -> list[Any]:
    found = []
    for inner in get_args(annotation):
        found.append(inner)
        found += _flatten(inner)
    return found
