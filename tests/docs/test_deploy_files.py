"""Files in deploy/: every option that they give exists, limits are the service's, and none names a package index."""

import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cytolora.classifier.serve.limits import Limits
from cytolora.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy"


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def composed() -> dict[str, Any]:
    return yaml.safe_load(text_of("compose.yaml"))


def unit() -> dict[str, list[str]]:
    pairs = [line.split("=", 1) for line in text_of("cytolora.service").splitlines() if re.match(r"[A-Za-z]+=", line)]
    return {name: [value for other, value in pairs if other == name] for name, _ in pairs}


def container_command() -> list[str]:
    words = re.search(r"^CMD (\[.*\])$", text_of("Containerfile"), re.MULTILINE)
    assert words is not None
    return yaml.safe_load(words[1])


COMMANDS = {
    "Containerfile": container_command,
    "compose.yaml": lambda: composed()["services"]["classifier"]["command"],
    "cytolora.service": lambda: shlex.split(unit()["ExecStart"][0])[1:],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_of_every_file_is_read_as_it_stands(name: str, capsys: pytest.CaptureFixture[str]):
    words = COMMANDS[name]()
    assert words[0] == "serve"
    command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert command.__name__ == "serve"
    assert len(bound.arguments["models"]) == 1
    app(["serve", "--help"], result_action="return_value")
    told = capsys.readouterr().out
    assert [word for word in words if word.startswith("--") and word.partition("=")[0] not in told] == []


def test_an_option_that_does_not_exist_would_be_seen():
    with pytest.raises(Exception, match="max-bodies"):
        app.parse_args(["serve", "model1", "--max-bodies", "2"], exit_on_error=False, print_error=False)


def test_the_proxy_refuses_what_the_service_would_and_waits_no_shorter():
    proxy, limits = text_of("nginx.conf"), Limits()

    def seconds(name: str) -> float:
        found = re.findall(rf"^\s*{name} (\d+)s;", proxy, re.MULTILINE)
        assert len(found) == 1, name
        return float(found[0])

    (size,) = re.findall(r"client_max_body_size (\d+)m;", proxy)
    assert int(size) * 2**20 == limits.max_body_bytes
    words = dict(word.lstrip("-").split("=") for word in composed()["services"]["classifier"]["command"][2:])
    assert float(words["max-body-mb"]) * 2**20 == limits.max_body_bytes
    assert words["max-connections"] == words["max-connections-per-client"]
    assert seconds("client_header_timeout") == limits.header_seconds
    assert seconds("client_body_timeout") == limits.body_seconds
    assert seconds("keepalive_timeout") < limits.header_seconds
    assert seconds("proxy_read_timeout") > 60
    assert proxy.count("{") == proxy.count("}")


def test_only_the_proxy_is_reached_and_nothing_can_be_written_but_to_memory():
    services = composed()["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    assert composed()["networks"]["inside"]["internal"] is True
    for one in services.values():
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in one["security_opt"]
        assert all(volume["read_only"] for volume in one["volumes"])
    assert services["classifier"]["user"] == "10001:10001"
    assert "\nUSER 10001:10001\n" in text_of("Containerfile")
    assert "\nHEALTHCHECK " in text_of("Containerfile")


def test_the_image_is_built_from_files_of_the_clone_with_extras_of_the_package():
    container = text_of("Containerfile")
    copied = [word for line in re.findall(r"^COPY (?!--)(.*)$", container, re.MULTILINE) for word in line.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    assert set(copied) == {line[1:] for line in text_of("Containerfile.dockerignore").splitlines() if line[:1] == "!"}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r"'\.\[(.*)\]'", container)
    assert set(named.split(",")) <= extras.keys()
    assert container.count("-c constraints.txt") == 2


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_no_file_names_a_package_index(path: Path):
    assert re.findall(r"--(?:extra-)?index-url|--find-links|pypi|download\.pytorch", path.read_text("utf-8")) == []
    assert set(re.findall(r"https?://[^\s'\";]+", path.read_text("utf-8"))) <= {
        "http://127.0.0.1:8000/ready",
        "http://classifier",
        "https://$host$request_uri",
    }


def test_the_unit_runs_without_a_user_rights_or_a_place_to_write_to():
    expected = {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "IPAddressDeny": "any",
    }
    assert {name: unit()[name][-1] for name in expected} == expected
    assert "MemoryMax" in unit()
    assert "MemoryDenyWriteExecute" not in unit()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path):
    text = text_of("cytolora.service").replace("/opt/cytolora/bin/cytolora", shutil.which("true") or "")
    (tmp_path / "cytolora.service").write_text(text)
    command = ["systemd-analyze", "verify", str(tmp_path / "cytolora.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
