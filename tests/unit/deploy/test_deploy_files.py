"""The files of deploy/ are valid by the schemas and programs of those who read them, and say what the code does."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import gapfactory
from launchpad.workers.settings import SupervisorSettings, WorkerSettings

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").iterdir())
KUBERNETES = ("1.28", "1.34")
#: Longest time from SIGTERM to the end of a supervisor, in seconds.
DRAIN_S = WorkerSettings().drain_grace_s + SupervisorSettings().kill_after_s


def program(name: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **more)


def load(path: Path) -> list:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text()))


def manifests() -> list[dict]:
    return [document for path in MANIFESTS for document in load(path)]


def pod_of(document: dict) -> dict | None:
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    if document["kind"] == "Pod":
        return spec
    return spec["template"]["spec"] if "template" in spec else None


def compose() -> dict:
    return load(COMPOSE)[0]


# ---- compose ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [False, True])
def test_the_compose_file_keeps_to_the_specification(tmp_path, broken) -> None:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed")
    text = COMPOSE.read_text()
    path = tmp_path / "compose.yaml"
    path.write_text(text.replace("stop_grace_period:", "stop_grace_time:") if broken else text)
    done = run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path))
    assert (done.returncode != 0) is broken, done.stdout + done.stderr


def test_the_compose_file_names_nothing_that_is_not_there() -> None:
    found = compose()
    for name, service in found["services"].items():
        assert set(service.get("secrets", [])) <= set(found["secrets"]), name
        assert set(service.get("depends_on", {})) <= set(found["services"]), name
        for volume in service.get("volumes", []):
            if volume.startswith(("./initiate", "../")):
                assert (COMPOSE.parent / volume.split(":")[0]).is_file(), volume
        # what a service reads as a secret is handed to it
        words = re.findall(r"/run/secrets/([\w.]+)", str(service))
        assert set(words) <= set(service.get("secrets", [])), name
    build = found["x-ours"]["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def test_services_are_shut_in_and_the_database_wants_passwords_and_tls() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["user"].startswith("${GAPFACTORY_USER"), name
        assert not service.get("privileged"), name
    assert {"--auth", "--tlsMode=requireTLS"} <= set(services["mongo"]["command"])
    assert any(word.startswith("--keyFile=") for word in services["mongo"]["command"])
    assert int(services["workers"]["stop_grace_period"].removesuffix("s")) > DRAIN_S


@pytest.mark.parametrize("path", [COMPOSE, *MANIFESTS, *UNITS, DEPLOY / "Dockerfile"], ids=lambda p: p.name)
def test_no_file_contains_a_secret(path) -> None:
    text = path.read_text()
    assert not re.search(r"mongodb(\+srv)?://[^\s:/]+:[^\s@.]+@", text)
    assert not re.search(r"(?i)\b(password|pwd)\b\s*[:=]\s*[\"']?(?!/run/secrets|/secret)\w{6}", text)
    assert "kind: Secret" not in text


# ---- Kubernetes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_keep_to_the_schemas_of_kubernetes(version) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    documents = manifests()
    for document in documents:
        validator.validate(document, version, strict=True)
    wrong = next(document for document in documents if document["kind"] == "StatefulSet")
    wrong["spec"]["replica"] = 3
    with pytest.raises(validator.ValidationError):
        validator.validate(wrong, version, strict=True)


def test_manifests_refer_to_each_other() -> None:
    documents = manifests()
    assert {d["kind"] for d in documents} >= {
        "StatefulSet",
        "Service",
        "CronJob",
        "Deployment",
        "NetworkPolicy",
    }
    guide = (ROOT / "docs/how-to/operate.md").read_text()
    claims = {d["metadata"]["name"] for d in documents if d["kind"] == "PersistentVolumeClaim"}
    for document in documents:
        pod = pod_of(document)
        if pod is None:
            continue
        name = document["metadata"]["name"]
        assert document["metadata"]["namespace"] == "gapfactory"
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for volume in volumes.values():
            if "secret" in volume:
                assert volume["secret"]["secretName"] in guide, f"the guide does not make {volume}"
                assert volume["secret"]["defaultMode"] == 0o440
            if "configMap" in volume:
                assert volume["configMap"]["name"] in guide
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
        if document["kind"] == "StatefulSet":
            volumes |= {
                claim["metadata"]["name"]: claim for claim in document["spec"]["volumeClaimTemplates"]
            }
            services = [d["metadata"]["name"] for d in documents if d["kind"] == "Service"]
            assert document["spec"]["serviceName"] in services
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes), name
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["requests"], name


def test_workers_have_the_time_that_their_drain_takes() -> None:
    workers = next(d for d in manifests() if d["metadata"]["name"] == "workers")
    assert pod_of(workers)["terminationGracePeriodSeconds"] > DRAIN_S
    unit = (DEPLOY / "systemd" / "gapfactory-worker@.service").read_text()
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1]) > DRAIN_S
    # a signal to every process at once would stop the workers twice
    assert re.search(r"^KillMode=mixed$", unit, re.MULTILINE)


def test_images_carry_the_version_of_the_package() -> None:
    ours = [
        text
        for path in [COMPOSE, *MANIFESTS]
        for text in re.findall(r"gapfactory:\$?\{?(?:GAPFACTORY_VERSION:-)?([\d.]+)", path.read_text())
    ]
    assert len(ours) >= 3
    assert set(ours) == {gapfactory.__version__}
    images = [i for path in [COMPOSE, *MANIFESTS] for i in re.findall(r"image: (\S+)", path.read_text())]
    assert not [image for image in images if ":" not in image or image.endswith(":latest")]


def test_every_command_in_the_files_exists() -> None:
    from typer.main import get_command

    from launchpad.cli.app import app

    texts = [path.read_text() for path in (COMPOSE, *MANIFESTS, *UNITS, DEPLOY / "Dockerfile")]
    texts.append((ROOT / "docs/how-to/operate.md").read_text())
    texts = [re.sub(r"(?m)^\s*# .*$", "", text) for text in texts]
    pattern = r"gapfactory[\"', ]+((?:worker|db|notify|dashboard|campaign|reference)(?:[\"', ]+[a-z-]+)+)"
    lines = {tuple(re.findall(r"[a-z-]+", match)) for text in texts for match in re.findall(pattern, text)}
    assert len(lines) >= 4
    for line in lines:
        command = get_command(app)
        for word in line:
            if not hasattr(command, "commands"):
                break  # arguments
            assert word in command.commands, f"gapfactory {' '.join(line)}"
            command = command.commands[word]


# ---- systemd and Docker ----------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path) -> Path:
    """The units as instances of one group, with a program that exists here."""
    here = program("gapfactory")
    for path in UNITS:
        text = path.read_text().replace("/opt/gapfactory/bin/gapfactory", here)
        (tmp_path / path.name.replace("@", "@silicon")).write_text(text)
    return tmp_path


def test_systemd_takes_the_units(units) -> None:
    analyse = program("systemd-analyze")
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"}
    names = sorted(str(path) for path in units.iterdir())
    done = run(analyse, "verify", "--man=no", *names, env=environment)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    worker = units / "gapfactory-worker@silicon.service"
    worker.write_text(worker.read_text().replace("KillMode=", "KillMod="))
    assert "KillMod" in run(analyse, "verify", "--man=no", str(worker), env=environment).stderr


def test_systemd_finds_the_units_shut_in(units) -> None:
    analyse = program("systemd-analyze")
    if int(run(analyse, "--version").stdout.split()[1]) < 250:
        pytest.skip("systemd-analyze is older than 250 and cannot judge files")
    for path in units.glob("*.service"):
        # exposure: 0 is none, 100 is all; without hardening it is 96
        done = run(analyse, "security", "--offline=yes", "--threshold=25", "--no-pager", str(path))
        assert done.returncode == 0, done.stdout


def test_hadolint_has_nothing_to_say() -> None:
    done = run(program("hadolint"), "--no-color", str(DEPLOY / "Dockerfile"))
    assert done.returncode == 0, done.stdout


def test_the_image_gets_what_it_copies() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == {"pyproject.toml", "README.md", "LICENSE", "gapfactory", "launchpad"}
    assert all((ROOT / name).exists() for name in kept)


# ---- the dashboard ---------------------------------------------------------------------------------------------


def options(words: list[str]) -> dict[str, str]:
    return dict(
        word.removeprefix("--").split("=", 1) for word in words if word.startswith("--") and "=" in word
    )


def caches() -> dict[str, str]:
    """Directories that the image's processes write to."""
    text = (DEPLOY / "Dockerfile").read_text()
    names = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "GAPFACTORY_CACHE")
    return {name: re.search(rf"\b{name}=(\S+)", text)[1] for name in names}


def test_the_dashboard_in_containers_has_what_it_needs_and_writes_nowhere_else() -> None:
    """Port, key and places to write; the results themselves are in the database."""
    service = compose()["services"]["dashboard"]
    given = options(service["command"])
    assert service["ports"] == [f"127.0.0.1:${{DASHBOARD_PORT:-8265}}:{given['port']}"]
    assert given["secret-file"].removeprefix("/run/secrets/") in service["secrets"]
    assert not service.get("volumes")
    writable = [place.split(":")[0] for place in service["tmpfs"]]
    found = next(
        document
        for document in manifests()
        if document["metadata"]["name"] == "dashboard" and pod_of(document)
    )
    (container,) = pod_of(found)["containers"]
    told = options(container["args"])
    assert container["ports"][0]["containerPort"] == int(told["port"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert told["secret-file"].startswith(f"{mounts['secret']}/")
    empty = [mounts[volume["name"]] for volume in pod_of(found)["volumes"] if "emptyDir" in volume]
    for name, place in caches().items():
        assert any(Path(place).is_relative_to(there) for there in writable), (name, place)
        assert any(Path(place).is_relative_to(there) for there in empty), (name, place)


def test_the_dashboard_under_systemd_has_what_it_needs_and_writes_nowhere_else() -> None:
    text = (DEPLOY / "systemd" / "gapfactory-dashboard@.service").read_text()
    lines = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
    assert ["ProtectSystem", "strict"] in lines
    places = {"CacheDirectory": "/var/cache", "StateDirectory": "/var/lib"}
    writable = [f"{root}/{value}" for key, root in places.items() for name, value in lines if name == key]
    said = dict(
        word.split("=", 1) for name, value in lines if name == "Environment" for word in value.split()
    )
    for name in caches().keys() - {"HOME"}:
        assert any(Path(said[name]).is_relative_to(there) for there in writable), name
    command = next(value for name, value in lines if name == "ExecStart")
    secret = re.search(r"--secret-file (\S+)", command)[1]
    assert any(Path(secret).is_relative_to(there) for there in writable)
