"""Drive a real JupyterLab: a server of its own in a folder of its own, Debian's or anybody's Chromium, and Playwright.

with lab_server(folder) as server, browser_page() as page:
    open_notebook(page, server, "some.ipynb")
    run_all(page)
"""

import contextlib
import functools
import http.server
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

CHROME = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HERE = ("http://127.0.0.1", "ws://127.0.0.1", "http://localhost", "data:", "blob:", "file:")
ROOT = Path(__file__).resolve().parent.parent


def chromium() -> str | None:
    """The path of a Chromium or Chrome, or None. The variable CHROMIUM names another one."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def missing() -> str | None:
    """What this machine lacks to drive a browser, in words, or None."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed (it comes with `make setup`)"
    if chromium() is None:
        return "no Chromium is installed (on Debian and Ubuntu: sudo apt install chromium; or name one in CHROMIUM)"
    return None


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def lab_server(root, log=None, extra=(), python=sys.executable):
    """A JupyterLab with its own settings, runtime and workspace folders and a random token: yields (address, token).

    It uses the package of this checkout, and its server extension whether or not that is installed.
    """
    port, token = free_port(), secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="lab-") as folder:
        folder = Path(folder)
        news = folder / "settings" / "@jupyterlab" / "apputils-extension"
        news.mkdir(parents=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (news / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        names = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")
        env = {**os.environ, **{name: str(folder / name.lower()) for name in names}}
        env |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "OMP_WAIT_POLICY": "PASSIVE"}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
        for name in ("MPLBACKEND", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            env.pop(name, None)  # a learner's kernel has all cores
        options = [
            "--no-browser",
            "--ServerApp.ip=127.0.0.1",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={token}",
            f"--ServerApp.root_dir={Path(root).resolve()}",
            "--allow-root",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.extension_manager=readonly",
            "--ServerApp.terminals_enabled=False",
            "--LanguageServerManager.autodetect=False",
            *extra,
        ]
        with open(log or os.devnull, "w") as out:
            process = subprocess.Popen(
                [python, "-m", "jupyterlab", *options], env=env, stdout=out, stderr=subprocess.STDOUT
            )
            try:
                _wait_for(process, f"http://127.0.0.1:{port}/api/status?token={token}")
                yield f"http://127.0.0.1:{port}/", token
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait_for(process, address, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError("JupyterLab has stopped: see its log")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=2).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not answer within {seconds} seconds")


@contextlib.contextmanager
def browser_page(init_script=None, size=(1280, 900), **context):
    """A page of a fresh browser. `page.outside`: requests that left this machine. `page.errors`: what went wrong."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROME)
        page = browser.new_context(viewport={"width": size[0], "height": size[1]}, **context).new_page()
        page.outside, page.errors = [], []
        page.on("request", lambda r: None if r.url.startswith(HERE) else page.outside.append(r.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        if init_script:
            page.add_init_script(init_script)
        try:
            yield page
        finally:
            browser.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def end_headers(self):
        self.send_header("Cache-Control", "max-age=600")  # as GitHub's pages have it
        super().end_headers()


@contextlib.contextmanager
def served(folder):
    """A plain web server of the files in a folder: yields its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


IDLE = """() => { const w = window.jupyterapp && window.jupyterapp.shell.currentWidget;
    const k = w && w.sessionContext && w.sessionContext.session && w.sessionContext.session.kernel;
    return k && k.connectionStatus === 'connected' && k.status === 'idle'; }"""
DONE = """() => { const w = window.jupyterapp.shell.currentWidget;
    return w.sessionContext.session.kernel.status === 'idle' && w.content.widgets.every(c => c.model.type !== 'code'
        || !c.model.sharedModel.getSource().trim() || c.model.executionCount); }"""
WRONG = """() => window.jupyterapp.shell.currentWidget.content.widgets.flatMap(c => c.model.type !== 'code' ? [] :
    c.model.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue))"""


def open_notebook(page, server, path, mode="doc", timeout=90):
    """Open a notebook, and wait until its kernel is ready."""
    address, token = server
    page.goto(f"{address}{mode}/tree/{path}?reset&token={token}")
    page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=timeout * 1000)
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook .jp-Cell", timeout=timeout * 1000)
    page.wait_for_function(IDLE, timeout=timeout * 1000)


def run_all(page, timeout=120):
    """Run every cell and wait until the last has finished. Returns what went wrong, in words."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(DONE, timeout=timeout * 1000)
    return page.evaluate(WRONG)


def sources(page):
    """The code cells of the notebook on show: {number: source}, numbered among all cells."""
    found = page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets.map((c, i) =>
            [i, c.model.type === 'code' ? c.model.sharedModel.getSource() : null])"""
    )
    return {number: source for number, source in found if source is not None}


def run_cells(page, numbers):
    """Run some of the cells, one after the other, and wait for them. Returns what went wrong, in words."""
    return page.evaluate(
        """async (numbers) => { const content = window.jupyterapp.shell.currentWidget.content, wrong = [];
        for (const number of numbers) {
          content.deselectAll();
          content.activeCellIndex = number;
          await window.jupyterapp.commands.execute('notebook:run-cell');
          wrong.push(...content.widgets[number].model.outputs.toJSON().filter(o => o.output_type === 'error'));
        }
        return wrong.map(o => o.ename + ': ' + o.evalue); }""",
        numbers,
    )


def begin_cell(page, number):
    """Run a cell, and do not wait for it."""
    page.evaluate(
        """(number) => { const content = window.jupyterapp.shell.currentWidget.content;
        content.deselectAll();
        content.activeCellIndex = number;
        window.jupyterapp.commands.execute('notebook:run-cell'); }""",
        number,
    )


def run_code(page, code):
    """Run something in the kernel of the notebook on show that is in no cell of it; RuntimeError where it fails."""
    status = page.evaluate(
        """async (code) => { const session = window.jupyterapp.shell.currentWidget.sessionContext.session;
        return (await session.kernel.requestExecute({ code, store_history: false }).done).content.status; }""",
        code,
    )
    if status != "ok":
        raise RuntimeError(f"the kernel says {status!r} to:\n{code}")


def shut_down(page):
    """End the kernel of the notebook on show."""
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def write_notebook(path, *cells):
    """A notebook of these code cells."""
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
