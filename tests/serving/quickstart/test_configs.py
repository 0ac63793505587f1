"""Every shipped configuration is valid, and the quickstart's says what the defaults are."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from data.config import SECTIONS, RawConfig, Section, read_config, section
from serving.quickstart.sections import SECTION_SCHEMAS

CONFIGS = Path(__file__).parents[3] / "configs"


def schema(name: str) -> type[Section]:
    module, _, attribute = SECTION_SCHEMAS[name].partition(":")
    found: type[Section] = getattr(importlib.import_module(module), attribute)
    return found


def checked(raw: RawConfig) -> dict[str, Section]:
    return {name: section(raw, name, schema(name)) for name in SECTIONS}


def test_every_section_has_a_schema() -> None:
    assert set(SECTION_SCHEMAS) == set(SECTIONS)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert checked(read_config(path)).keys() == set(SECTIONS)


def test_the_quickstart_configuration_is_the_default() -> None:
    assert checked(read_config(CONFIGS / "quickstart-cpu.yaml")) == checked({})
