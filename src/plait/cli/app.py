"""The commands, and what their endings mean to a shell.

    0  ok
    1  something the user can put right: an option, a file, the workflow, a model
    2  some rows failed (run, retry), or results differ (diff)
    3  interrupted; the command that goes on is printed
    4  a fault of plait's own

Commands import what they need when they run, so that `plait --help` is quick.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import traceback
from typing import Annotated, Any, NoReturn

import typer

from . import bench, check, demo, diff, doctor, draw, explain, report, retry, run

OK, USER_ERROR, ROWS_FAILED, INTERRUPTED, INTERNAL = range(5)

app = typer.Typer(
    help="Run agent workflows as query plans over batches of rows, on your own machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run.run, check.check, draw.draw, explain.explain, report.report, diff.diff, retry.retry,
    doctor.doctor, demo.demo,
):  # fmt: skip
    app.command()(command)
app.add_typer(bench.app, name="bench")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; stands anywhere.")
    ] = False,
) -> None:
    if version:
        from .. import __version__

        print(__version__)
        raise typer.Exit


_Usage: Any = typer.BadParameter.__bases__[0]
"""What typer raises for a command line that it cannot read."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # as standard error and the files that we write
        sys.stdout.reconfigure(errors="backslashreplace")
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        code = app(args, prog_name="plait", standalone_mode=False) or OK
    except _Usage as error:
        code = _tell(args, "UsageError", error.format_message(), "see: plait --help")
    except typer.Abort:
        code = INTERRUPTED
    except KeyboardInterrupt:
        code = INTERRUPTED
        print("plait: interrupted before anything was written", file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK  # whoever read our output has seen enough
    except Exception as error:
        if debug:
            traceback.print_exc()
        code = _failure(args, error, debug)
    sys.exit(code)


def _failure(args: list[str], error: Exception, debug: bool) -> int:
    from ..dag.errors import UserError

    kind, text = type(error).__name__, str(error)
    if isinstance(error, UserError):
        problems = getattr(error, "problems", ())
        return _tell(args, kind, f"{len(problems)} problems:\n{text}" if problems[1:] else text)
    where = "see the traceback above"
    if not debug:
        with tempfile.NamedTemporaryFile(
            "w", prefix="plait-traceback-", suffix=".txt", delete=False, errors="backslashreplace"
        ) as file:
            traceback.print_exception(error, file=file)
        where = f"the traceback is in {file.name}; please report it"
    _tell(args, kind, f"a fault of plait's own: {kind}: {text}", where)
    return INTERNAL


def _tell(args: list[str], kind: str, message: str, hint: str = "") -> int:
    """Say what was wrong: a sentence on stderr, and on stdout as JSON when that was asked for."""
    print(f"plait: {message}" + (f" ({hint})" if hint else ""), file=sys.stderr)
    if "--json" in args:
        print(json.dumps({"status": "error", "error": {"type": kind, "message": message}}))
    return USER_ERROR
