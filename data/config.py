"""Configuration files: one YAML, a section a part, every section a frozen dataclass-like model.

A section's schema belongs to the part that uses it (training.config, rag.config ...); this module knows
only how a file is read, overridden, checked and written, and which section names exist.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from data.artefacts import write_text
from data.errors import InputError, UsageError
from data.workspace import Run

SECTIONS = (
    "workbook",
    "prepare",
    "split",
    "models",
    "train",
    "xtuner",
    "sweep",
    "merge",
    "index",
    "retrieve",
    "serve",
    "ask",
)


class Section(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


S = TypeVar("S", bound=Section)
RawConfig = dict[str, dict[str, Any]]


def read_config(path: Path | None, overrides: Sequence[str] = ()) -> RawConfig:
    """Return the sections of a YAML file (none: the defaults), with `section.key=value` overrides laid over.

    A key may lead further down, as in `serve.lmdeploy.tp=2`.

    Raises:
        UsageError: no such file, not YAML, an unknown section, or an override that is not `section.key=value`.
    """
    raw: Any = {}
    if path is not None:
        try:
            raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except FileNotFoundError:
            raise UsageError(f"{path}: no such configuration file") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    where = str(path) if path else "configuration"
    if not isinstance(raw, dict):
        raise UsageError(f"{where}: expected sections ({', '.join(SECTIONS)}), found {type(raw).__name__}")
    sections: RawConfig = {}
    for name, body in raw.items():
        if name not in SECTIONS:
            raise UsageError(f"{where}: unknown section {name!r}{_suggestion(str(name), SECTIONS)}")
        if not isinstance(body, dict | None):
            raise UsageError(f"{where}: {name}: expected keys and values, found {body!r}")
        sections[name] = dict(body or {})
    for override in overrides:
        _apply(sections, override)
    return sections


def _apply(sections: RawConfig, override: str) -> None:
    path, equals, text = override.partition("=")
    section, *keys = path.strip().split(".")
    if not equals or not all(keys) or not keys or section not in SECTIONS:
        raise UsageError(
            f"--set {override!r}: expected SECTION.KEY=VALUE with a section of {', '.join(SECTIONS)}"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {override!r}: the value is not YAML: {error}") from error
    body = sections.setdefault(section, {})
    for depth, key in enumerate(keys[:-1], start=1):
        body = body.setdefault(key, {})
        if not isinstance(body, dict):
            above = ".".join((section, *keys[:depth]))
            raise UsageError(f"--set {override!r}: {above} has a value, {body!r}, and no keys below it")
    body[keys[-1]] = value


def section(raw: Mapping[str, Mapping[str, Any]], name: str, schema: type[S]) -> S:
    """Return section `name` checked against `schema`.

    Raises:
        UsageError: all faults of the section at once, each with its key, its value and the fix.
    """
    try:
        return schema.model_validate(dict(raw.get(name, {})))
    except ValidationError as error:
        faults = [_fault(name, schema, detail) for detail in error.errors()]
        raise UsageError("configuration: " + "; ".join(faults)) from None


def _fault(name: str, schema: type[Section], detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{name}.{key}: unknown key{_suggestion(key, tuple(schema.model_fields))}"
    return f"{name}.{key}: {detail['msg'][0].lower()}{detail['msg'][1:]} (found {detail['input']!r})"


def _suggestion(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def settle_config(run: Run, path: Path | None, overrides: Sequence[str] = ()) -> RawConfig:
    """Return the configuration that a step of `run` uses.

    A file or an override given now is used as it is; with neither, the run's own config.yaml, so that the
    steps of one run agree without repeating their options.
    """
    if path is None and run.config.is_file():
        return read_config(run.config, overrides)
    return read_config(path, overrides)


def save_config(run: Run, raw: RawConfig) -> None:
    """Write the run's configuration where its later steps find it."""
    text = yaml.safe_dump(raw, allow_unicode=True, sort_keys=True)
    if run.config.is_file() and run.config.read_text(encoding="utf-8") == text:
        return
    try:
        write_text(run.config, text)
    except OSError as error:
        raise InputError(f"{run.config}: cannot be written ({error.strerror})") from error
