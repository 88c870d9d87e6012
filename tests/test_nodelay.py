"""The server extension: small messages go out at once, others' choices are left alone, it comes with the package."""

import json
import logging
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTING = "kernel_websocket_connection_class"


@pytest.fixture
def nodelay():
    from dit_course.setup import nodelay

    return nodelay


def app(connection):
    web_app = types.SimpleNamespace(settings={SETTING: connection})
    return types.SimpleNamespace(web_app=web_app, log=logging.getLogger("test"))


def test_it_takes_the_place_of_the_servers_own_connection(nodelay):
    server = app(nodelay.ZMQChannelsWebsocketConnection)
    nodelay._load_jupyter_server_extension(server)
    assert server.web_app.settings[SETTING] is nodelay.NoDelayConnection


def test_another_ones_choice_is_left_alone(nodelay):
    class Other:
        pass

    server = app(Other)
    nodelay._load_jupyter_server_extension(server)
    assert server.web_app.settings[SETTING] is Other


@pytest.mark.parametrize("works", [True, False])
def test_it_sets_the_option_and_connects_in_any_case(nodelay, works, monkeypatch):
    requested = []

    def set_nodelay(value):
        requested.append(value)
        if not works:
            raise OSError("no such option")

    kind = nodelay.NoDelayConnection
    monkeypatch.setattr(nodelay.ZMQChannelsWebsocketConnection, "connect", lambda self: "connected")
    handler = types.SimpleNamespace(set_nodelay=set_nodelay)
    monkeypatch.setattr(kind, "websocket_handler", handler, raising=False)
    monkeypatch.setattr(kind, "log", logging.getLogger("test"), raising=False)
    assert kind.__new__(kind).connect() == "connected"
    assert requested == [True]


def test_the_package_ships_what_switches_it_on_and_keeps_jupyterlab_quiet():
    shared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    places = {Path(to): json.loads((ROOT / file).read_text()) for file, to in shared["shared-data"].items()}
    config = places[Path("etc/jupyter/jupyter_server_config.d/dit_course.json")]
    assert config == {"ServerApp": {"jpserver_extensions": {"dit_course.setup.nodelay": True}}}
    settings = places[Path("share/jupyter/lab/settings/overrides.json")]
    news = settings["@jupyterlab/apputils-extension:notification"]
    assert news == {"fetchNews": "false", "checkForUpdates": False}
    switched = places[Path("etc/jupyter/labconfig/page_config.d/dit_course.json")]  # on again by `labextension enable`
    assert switched == {"disabledExtensions": {"@jupyter/nbgrader": True}}


def test_the_server_does_not_wait_for_torch():
    code = (
        "import sys, dit_course.setup.nodelay as n\nn._jupyter_server_extension_points(); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "False"
