"""deploy/: types, references between the files, and what the tools that read them say where they are here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from data.config import section
from serving.settings import ServeSection
from tests.deploy.kubernetes_types import faults_of

_DEPLOY = Path(__file__).parents[2] / "deploy"
_KUBERNETES = _DEPLOY / "kubernetes"
_COMPOSE = _DEPLOY / "container" / "compose.yaml"
_UNITS = sorted((_DEPLOY / "systemd").glob("*.service"))
# What may be named without a registry: Docker Hub's official Python.
_IMAGE = re.compile(r"your-registry/(groundtune:0\.1\.0|lmdeploy:0\.18\.0)|python:3\.11-slim")


def _objects() -> list[dict[str, Any]]:
    files = yaml.safe_load((_KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert {*files, "kustomization.yaml"} == {file.name for file in _KUBERNETES.iterdir()}
    return [thing for file in files for thing in yaml.safe_load_all((_KUBERNETES / file).read_text())]


def _named(kind: str) -> dict[str, dict[str, Any]]:
    return {thing["metadata"]["name"]: thing for thing in _objects() if thing["kind"] == kind}


def test_kubernetes_objects_have_the_apis_types() -> None:
    objects = _objects()
    assert {thing["kind"] for thing in objects} > {"Deployment", "Service", "ConfigMap", "NetworkPolicy"}
    for thing in objects:
        assert faults_of(thing) == []
        assert thing["metadata"].get("namespace", "groundtune") == "groundtune"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("spec", "replica"), 2, "spec.replica: V1DeploymentSpec has no such field"),
        (("spec", "replicas"), "2", "spec.replicas: Input should be a valid integer"),
        (("spec", "selector"), None, "spec.selector: Field required"),
        (
            ("spec", "template", "spec", "containers", 0, "ports", 0, "containerPort"),
            True,
            "container_port: Input should be a valid integer",
        ),
        (
            ("spec", "template", "spec", "containers", 0, "env"),
            {"A": "b"},
            "env: Input should be a valid list",
        ),
        (("spec", "template", "spec", "containers", 0, "name"), None, "containers.0.name: Field required"),
        (("apiVersion",), "extensions/v1", "no kind 'Deployment'"),
    ],
)
def test_a_wrong_object_is_found(path: tuple[str | int, ...], value: Any, fault: str) -> None:
    thing: Any = _named("Deployment")["gateway"]
    inner = thing
    for step in path[:-1]:
        inner = inner[step]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    assert fault in "; ".join(faults_of(thing))


def test_kubernetes_objects_fit_each_other() -> None:
    deployments = _named("Deployment")
    pods = {name: one["spec"]["template"] for name, one in deployments.items()}
    for name, one in deployments.items():
        assert one["spec"]["selector"]["matchLabels"].items() <= pods[name]["metadata"]["labels"].items()
    for name, service in _named("Service").items():
        chosen = [
            pod
            for pod in pods.values()
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        assert len(chosen) == 1, name
        ports = {port["name"] for port in chosen[0]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    claims, maps = _named("PersistentVolumeClaim"), _named("ConfigMap")
    for pod in pods.values():
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]
        mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        assert mounted == set(volumes)
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "release") in claims
            assert volume.get("configMap", {}).get("name", "gateway") in maps


def test_gateway_takes_its_configuration_and_arguments() -> None:
    raw = yaml.safe_load(_named("ConfigMap")["gateway"]["data"]["serve.yaml"])
    config = section(raw, "serve", ServeSection)
    services = _named("Service")
    deployments = _named("Deployment")
    for weights, endpoint in config.external.items():
        (port,) = services[endpoint.url.split("/")[2].split(":")[0]]["spec"]["ports"]
        assert endpoint.url.endswith(f":{port['port']}/v1")
        arguments = deployments[f"engine-{weights}"]["spec"]["template"]["spec"]["containers"][0]["args"]
        assert f"--model-name={endpoint.model}" in arguments
        assert f"--server-port={port['port']}" in arguments
    (container,) = deployments["gateway"]["spec"]["template"]["spec"]["containers"]
    _serve_refuses_only_the_run(container["args"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(str(config.keys_file).startswith(mount) for mount in mounts)


def _serve_refuses_only_the_run(arguments: list[str]) -> None:
    """Parse a `groundtune serve` command line as the command itself does, and start nothing."""
    from serving.cli_serve import app

    assert arguments[0] == "serve"
    done = CliRunner().invoke(app, [*arguments[1:], "--name", "../none"])
    assert "letters, digits" in str(done.exception), done.output


def test_compose_file_is_whole() -> None:
    compose = yaml.safe_load(_COMPOSE.read_text(encoding="utf-8"))
    assert set(compose) == {"name", "services", "volumes"}
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (
                (_COMPOSE.parent / source).exists()
                if source.startswith(".")
                else source in compose["volumes"]
            )
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    own = compose["services"]["groundtune"]
    assert (_COMPOSE.parent / own["build"]["context"] / own["build"]["dockerfile"]).is_file()
    _serve_refuses_only_the_run(own["command"])
    raw = yaml.safe_load((_COMPOSE.parent / "serve-gpu.yaml").read_text())
    tuned = section(raw, "serve", ServeSection).external["tuned"]
    assert tuned.url == "http://tuned:23333/v1"
    assert tuned.model in compose["services"]["tuned"]["command"]


def test_compose_reads_its_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no `docker compose` on this machine")
    command = [docker, "compose", "-f", str(_COMPOSE), "--profile", "gpu", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_container_file_copies_what_there_is() -> None:
    text = (_DEPLOY / "container" / "Containerfile").read_text()
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert {"serving", "requirements.lock"} <= set(sources)
    assert [source for source in sources if not (_DEPLOY.parent / source).exists()] == []


def test_images_are_placeholders() -> None:
    files = [file for file in _DEPLOY.rglob("*") if file.suffix in (".yaml", "") and file.is_file()]
    images = [
        image
        for file in files
        for image in re.findall(r"(?:^FROM |image: )(\S+)", file.read_text(), re.MULTILINE)
    ]
    assert len(images) >= 7
    assert [image for image in images if not _IMAGE.fullmatch(image)] == []


@pytest.mark.parametrize("unit", _UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    # It asks that the program be there.
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text, num = re.subn(r"^ExecStart=\S+", f"ExecStart={program}", unit.read_text(), flags=re.MULTILINE)
    assert num == 1
    copy = tmp_path / unit.name.replace("@", "@tuned")
    copy.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    own = [line for line in done.stderr.splitlines() if copy.name in line]
    assert (done.returncode, own) == (0, []), done.stderr
