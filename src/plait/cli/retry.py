"""`plait retry`: the failed rows of a run once more."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Json, Quiet, RunPath


def retry(
    run_dir: RunPath,
    failed: Annotated[
        bool, typer.Option("--failed", help="Run the failed rows again (what retry does).")
    ] = True,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Run the failed rows of a run again.

    Those that never ran are run too, all in the same directory. The workflow file may have
    changed since, which is how a mistake in it is put right; the
    rows may not.
    """
    from ..engine.prepare import prepare_retry
    from .perform import perform

    return perform(lambda: prepare_retry(run_dir), as_json=as_json, quiet=quiet)
