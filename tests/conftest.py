"""Set before anything of plait is imported, and inherited by the processes that tests start."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ["PLAIT_CACHE_DIR"] = tempfile.mkdtemp(prefix="plait-tests-")
atexit.register(shutil.rmtree, os.environ["PLAIT_CACHE_DIR"], ignore_errors=True)
os.environ["PLAIT_CALIBRATE"] = "0"
