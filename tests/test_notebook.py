"""Where the package looks for Jupyter."""

import subprocess
import sys

import IPython

from dit_course.notebook import shell


def test_the_shell_is_found_where_there_is_one(monkeypatch):
    assert shell() is None  # IPython is imported here, but runs nothing
    monkeypatch.setattr(IPython, "get_ipython", lambda: "a shell")
    assert shell() == "a shell"


def test_looking_for_it_does_not_import_ipython():
    code = "import sys; from dit_course.notebook import shell; print(shell(), 'IPython' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "None False\n"
