"""Where a token came from, what became of a page: python -m llmhpc.trace token|url|id VALUE [--root DIR] [--json].

Or what a checkpoint has seen: python -m llmhpc.trace --checkpoint STEP|PATH [token|url|id VALUE].

token 1234567         the document of a training token, and its way back to the file and offset it was collected from
url https://..., id   every document of that address: in training, held out, removed by which rule, a copy of which
--checkpoint 300      alone: its tokens, epochs and how many documents it has seen; with a question: how often it had
                      read that document, and at which steps first

Of the newest launch below the root, or the newest whose name holds --run WORDS.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from llmhpc.errors import ArtifactError, ConfigError, denied_in_one_line
from llmhpc.tracing.backward import NotThereError, trace_token
from llmhpc.tracing.checkpoint import Checkpoint, find, seen
from llmhpc.tracing.flow import Flow
from llmhpc.tracing.forward import Wanted, trace
from llmhpc.tracing.reads import times_read
from llmhpc.tracing.scan import Report
from llmhpc.tracing.told import address_lines, seen_lines, token_lines


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, 130 if interrupted, 1 if there is no such token or document, 2 if the call is wrong or a file is not whole."""
    options = _parser().parse_args(arguments)
    try:
        if options.processes < 1:
            raise ConfigError(f"--processes {options.processes}: 1 or more")
        flow = Flow(options.root, options.run)
        at = find(flow, options.checkpoint) if options.checkpoint else None
        if options.what is None and at:
            found, lines = seen(flow, at), seen_lines
        elif options.value is None:
            raise ConfigError("token, url or id with a value, or --checkpoint")
        elif options.what == "token":
            found, lines = _token(flow, options, at), token_lines
        else:
            with _progress() as report:
                wanted = Wanted(options.what, options.value)
                found, lines = trace(flow, wanted, options.processes, report, at), address_lines
    except (ConfigError, ArtifactError) as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except NotThereError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=1) if options.json else "\n".join(lines(found)))
    return 0 if found.get("found", True) else 1


def _token(flow: Flow, options: argparse.Namespace, at: Checkpoint | None) -> dict[str, Any]:
    node = flow.tokens(options.step)
    if not options.value.replace(",", "").isdecimal():
        raise ConfigError(f"token {options.value}: a position, from 0")
    found = trace_token(flow, node, options.split, int(options.value.replace(",", "")))
    if at and options.split == "train":
        start = found["start"]
        found["read"] = times_read(flow, node, start, start + found["tokens"], at)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llmhpc.trace", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("token", "url", "id"))
    parser.add_argument("value", nargs="?")
    parser.add_argument("--checkpoint", default="", metavar="STEP", help="or a path")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--run", default="", metavar="WORDS", help="part of a launch's name")
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--step", default="", help="the tokenize step, if the run has several")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=int, default=cores, help="that search the shards")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    return parser


@contextmanager
def _progress() -> Iterator[Report]:
    """Shows how much of the shards is read, and the time left, on a terminal."""
    columns = TextColumn("searching"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
