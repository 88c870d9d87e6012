"""A block of the network, for every Python that is started with it, and a list of what was tried."""

import os
from collections.abc import Callable
from pathlib import Path

# Runs before anything else in every Python that finds it on its path; Jupyter's own sockets stay on this machine.
BLOCK = """
import os, socket

def local(host):
    host = host.decode() if isinstance(host, bytes) else str(host)
    return host in ("", "None", "localhost", "::1", "0.0.0.0") or host.startswith("127.")

def refuse(address):
    with open(os.environ["BLOCKED_ATTEMPTS"], "a") as log:
        log.write(f"{address}\\n")
    raise OSError(f"blocked by the test: {address}")

def guarded(original, position):
    def call(self, *arguments):
        address = arguments[position]
        if isinstance(address, tuple) and not local(address[0]):
            refuse(address[0])
        return original(self, *arguments)
    return call

def guarded_lookup(host, *arguments, original=socket.getaddrinfo, **more):
    return original(host, *arguments, **more) if local(host) else refuse(host)

for name, position in {"connect": 0, "connect_ex": 0, "sendto": -1}.items():
    setattr(socket.socket, name, guarded(getattr(socket.socket, name), position))
socket.getaddrinfo = guarded_lookup
"""

# 192.0.2.0/24 is reserved for documentation: nobody is there
PROOF = """
import socket, urllib.request

def attempt_udp():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"?", ("192.0.2.3", 53))

attempts = [
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
    lambda: urllib.request.urlopen("http://192.0.2.2/", timeout=1),
    lambda: urllib.request.urlopen("https://example.org/", timeout=1),
    attempt_udp,
]
for attempt in attempts:
    try:
        attempt()
    except OSError as error:
        assert "blocked by the test" in str(error), error
    else:
        raise AssertionError("the network is not blocked")
"""
PROVEN = ["192.0.2.1", "192.0.2.2", "example.org", "192.0.2.3"]


def blocked_network(folder: Path) -> tuple[dict[str, str], Callable[[], list[str]]]:
    """An environment in which Python reaches nothing but this machine, and a function that lists what it tried."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(BLOCK)
    log = folder / "attempts"
    log.touch()
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))  # this very checkout, too
    env = {"PYTHONPATH": paths, "BLOCKED_ATTEMPTS": str(log), "NO_PROXY": "*", "no_proxy": "*"}
    return env, lambda: log.read_text().split()
