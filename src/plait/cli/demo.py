"""`plait demo`: an example batch on the embedded model."""

from __future__ import annotations

from .options import Json


def demo(as_json: Json = False) -> int:
    print("to come")
    return 0
