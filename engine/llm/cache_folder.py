"""Where plait keeps what it has worked out about this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(part: str) -> Path:
    """`part` in $PLAIT_CACHE_DIR, else in plait's part of the user's cache directory."""
    own = os.environ.get("PLAIT_CACHE_DIR")
    if own:
        return Path(own) / part
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "plait" / part
