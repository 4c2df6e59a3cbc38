"""The reference of the campaign file, generated from the model: `python -m gapfactory.campaign.reference FILE`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from gapfactory.settings import descriptions

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["campaign_reference"]

HEAD = """# The campaign file

Generated from the model by `python -m gapfactory.campaign.reference docs/reference/campaign-file.md`; a test keeps it
up to date. A campaign file is YAML; `element: Si` alone is complete. Keys are nested as the headings say; NAME in a
heading stands for names that the file gives:

```yaml
element: Si
stop:
  label_budget: 500
gap:
  soap:
    n_sparse: 1000
```

An unknown key is an error that names the nearest valid one. `gapfactory campaign show FILE` prints every value with
what follows from the element.
"""


def campaign_reference() -> str:
    """Return the reference of every key with type, default and description, as Markdown."""
    from gapfactory.campaign.model import Campaign
    from gapfactory.campaign.presets import PRESETS

    lines = [HEAD]
    _section("", Campaign, lines)
    lines += ["## Presets", "", "| preset | what it is |", "| --- | --- |"]
    lines += [f"| `{name}` | {entry.summary} |" for name, entry in PRESETS.items()]
    lines += ["", *(f"- `{name}`: {note}" for name, entry in PRESETS.items() for note in entry.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _section(path: str, model: type[BaseModel], lines: list[str]) -> None:
    """Add a table of the model's own keys, then the sections of its nested models."""
    if path:
        lines += [f"## {path}", "", (model.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " "), ""]
    nested: list[tuple[str, type[BaseModel]]] = []
    rows = []
    texts = descriptions(model)
    for name, field in model.model_fields.items():
        models = [m for m in _models(field.annotation) if m is not None]
        named = get_origin(field.annotation) is dict
        nested += [(f"{path}.{name}{'.NAME' if named else ''}".strip("."), m) for m in models]
        if not models or named:
            rows.append(f"| `{name}` | {_type(field)} | {_default(field)} | {_text(texts.get(name, ''))} |")
    if rows:
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]
    for name, inner in nested:
        engine = inner.model_fields.get("engine")
        _section(f"{name} (engine: {engine.default})" if engine is not None else name, inner, lines)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _annotated(annotation: Any) -> list[Any]:
    """Return the annotated types within a type; a text among their annotations is how they are called."""
    if get_origin(annotation) is Annotated:
        return [annotation]
    return [found for inner in get_args(annotation) for found in _annotated(inner)]


def _type(field: FieldInfo) -> str:
    text = str(field.annotation) if get_args(field.annotation) else getattr(field.annotation, "__name__", "")
    for inner in _annotated(field.annotation):
        plain = getattr(inner.__origin__, "__name__", str(inner.__origin__))
        text = text.replace(str(inner), next((m for m in inner.__metadata__ if isinstance(m, str)), plain))
    text = re.sub(r"^typing\.Optional\[(.*)\]$", r"\1 or None", text)
    for old, new in (
        ("typing.", ""),
        ("NoneType", "nothing"),
        ("|", "or"),
        ("gapfactory.campaign.model.", ""),
        ("gapfactory.protocols.settings.", ""),
    ):
        text = text.replace(old, new)
    bounds = [str(m) for m in field.metadata if type(m).__name__ in {"Gt", "Ge", "Lt", "Le"}]
    signs = {"Gt": ">", "Ge": ">=", "Lt": "<", "Le": "<="}
    shown = ", ".join(
        f"{signs[b.split('(')[0]]} {b.split('=')[1].rstrip(')')}" for b in bounds if b.split("(")[0] in signs
    )
    return f"`{text}`" + (f" {shown}" if shown else "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{value}`"


def _text(description: str) -> str:
    return description.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(campaign_reference(), encoding="utf-8")
