"""Set before anything of plait is imported, and inherited by the processes that tests start."""

from __future__ import annotations

import os
import tempfile

os.environ["PLAIT_CACHE_DIR"] = tempfile.mkdtemp(prefix="plait-tests-")
os.environ["PLAIT_CALIBRATE"] = "0"
