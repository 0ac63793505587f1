"""Checks a Kubernetes object against the API's types, as the `kubernetes` package (a need of chromadb) has them.

Finds unknown fields, wrong kinds of values and missing required ones, at any depth. Knows no rules beyond types: not
that a selector must match its labels, nor what a quantity looks like.
"""

from __future__ import annotations

import re
from typing import Any

from kubernetes.client import models
from pydantic import ValidationError

# V1 stands for any group's v1; the package does not say which kind belongs to which.
_GROUPS = {"Deployment": "apps", "NetworkPolicy": "networking.k8s.io", "PodDisruptionBudget": "policy"}
_LIST = re.compile(r"list\[(.+)\]", re.IGNORECASE)
_MAPPING = re.compile(r"dict[\[(]str, (.+)[\])]", re.IGNORECASE)


def faults_of(thing: dict[str, Any]) -> list[str]:
    """Return what is wrong with one object; empty where nothing is."""
    group, _, version = str(thing.get("apiVersion")).rpartition("/")
    kind = str(thing.get("kind"))
    name = f"{version.capitalize()}{kind}"
    if not hasattr(models, name) or group != _GROUPS.get(kind, ""):
        return [f"no kind {kind!r} in {thing.get('apiVersion')!r}"]
    faults: list[str] = []
    renamed = _renamed(name, thing, kind, faults)
    try:
        getattr(models, name).model_validate(renamed)
    except ValidationError as error:
        faults += [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return faults


def _renamed(kind: str, value: Any, where: str, faults: list[str]) -> Any:
    """Return the value with the package's own names of fields, which are not those of the files."""
    if (listed := _LIST.fullmatch(kind)) and isinstance(value, list):
        return [_renamed(listed[1], item, f"{where}[{place}]", faults) for place, item in enumerate(value)]
    if (mapped := _MAPPING.fullmatch(kind)) and isinstance(value, dict):
        return {name: _renamed(mapped[1], item, f"{where}.{name}", faults) for name, item in value.items()}
    model = getattr(models, kind, None)
    if model is None or not isinstance(value, dict):
        return value
    names = {sent: own for own, sent in model.attribute_map.items()}
    known = {}
    for name, item in value.items():
        if name not in names:
            faults.append(f"{where}.{name}: {kind} has no such field")
        else:
            known[names[name]] = _renamed(model.openapi_types[names[name]], item, f"{where}.{name}", faults)
    return known
