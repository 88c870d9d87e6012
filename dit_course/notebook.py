"""Whether this code runs in a notebook (a service for checks and explorers)."""

import sys
from typing import Any


def shell() -> Any:
    """IPython's shell, where there is one, or None. IPython itself is not imported for that: it may be missing."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None
