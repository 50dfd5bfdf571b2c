"""What two processes see of one folder: python -m llmhpc.site.probe FOLDER forks two, srun starts them on two nodes.

All they say to each other goes through the folder, which is what is being tested. No clocks are compared: a delay is
half of a round trip. llmhpc.doctor reads what they print.
"""

import errno
import fcntl
import json
import os
import platform
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE_S = 120.0  # NFS may remember for up to a minute that a file was not there
RENAMING_S = 2.0
BLOCK_BYTES = 1 << 16  # several pages and packets, so that a half would show
LINE_BYTES = 16
LAST = 0  # the version after which a reader stops
ROUNDS, ROUNDS_S = 20, 30.0
NEW_FILES = 50
COMMANDS = ("scontrol", "sbatch", "squeue")


def put(path: Path, content: bytes) -> None:
    """Write a file the way all of llmhpc does: under another name, synced, renamed."""
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def wait_for(path: Path, *contents: bytes) -> bytes:
    """The content of a file once it is there and one of ``contents``. Raises TimeoutError."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if path.exists() and (content := path.read_bytes()) in contents:
            return content
        time.sleep(0.001)
    raise TimeoutError(f"{path.name} was not seen for {PATIENCE_S:.0f} s")


def meet(folder: Path, rank: int, place: str) -> None:
    """Return when the other one is there, too."""
    put(folder / f"{place}-{rank}", b"")
    wait_for(folder / f"{place}-{1 - rank}", b"")


def block(version: int) -> bytes:
    """A file that is one line again and again."""
    return b"%015d\n" % version * (BLOCK_BYTES // LINE_BYTES)


def rename_over(path: Path) -> int:
    """Rename new versions over the file for a while; how many."""
    version, end = LAST, time.monotonic() + RENAMING_S
    while time.monotonic() < end:
        version += 1
        put(path, block(version))
    put(path, block(LAST))
    return version


def read_while_renamed(path: Path) -> dict[str, int]:
    """Read until the last version; how many reads there were, and what was wrong with how many."""
    seen = {"reads": 0, "half": 0, "missing": 0, "stale": 0}
    content, until = b"", time.monotonic() + RENAMING_S + PATIENCE_S
    while content != block(LAST) and time.monotonic() < until:
        seen["reads"] += 1
        try:
            content = path.read_bytes()
            seen["half"] += content != content[:LINE_BYTES] * (BLOCK_BYTES // LINE_BYTES)
        except FileNotFoundError:
            seen["missing"] += 1
        except OSError as error:
            if error.errno != errno.ESTALE:  # NFS: replaced between open and read
                raise
            seen["stale"] += 1
    return seen


def delays_ms(folder: Path, rank: int) -> list[float]:
    """From a rename to the other one's reading it: half of each round trip, as rank 0 sees it."""
    found: list[float] = []
    end, going = time.monotonic() + ROUNDS_S, True
    while going:
        ping, pong = (folder / f"{word}-{len(found)}" for word in ("ping", "pong"))
        begun = time.monotonic()
        if rank == 0:
            going = len(found) < ROUNDS and begun < end
            put(ping, b"on" if going else b"stop")
            if going:
                wait_for(pong, b"")
        else:
            going = wait_for(ping, b"on", b"stop") == b"on"
            put(pong, b"")
        found.append((time.monotonic() - begun) / 2 * 1000)
    return found[:-1]


def make_alone(folder: Path) -> int:
    """How many files this process was the first to make, while the other one tries the same."""
    made = 0
    for number in range(NEW_FILES):
        try:
            (folder / f"new-{number}").open("x").close()
            made += 1
        except FileExistsError:
            continue
    return made


def lock(folder: Path, rank: int) -> str:
    """Rank 0 holds a lock while rank 1 tries it: excluded or not excluded, else why there is no lock."""
    with (folder / "lock").open("w") as file:
        if rank == 1:
            wait_for(folder / "held", b"")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            answer = "not excluded"
        except BlockingIOError:
            answer = "excluded"
        except OSError as error:
            answer = error.strerror or str(error)
        put(folder / ("tried" if rank else "held"), b"")
        if rank == 0:
            wait_for(folder / "tried", b"")
    return answer


def probe(folder: Path, rank: int, found: dict[str, Any]) -> None:
    """All checks, as one of two processes, into ``found``. Raises OSError for what the folder cannot do at all."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder.parent} is another folder there, or none")
    file = folder / "versions"
    if rank == 0:
        put(file, block(1))
    meet(folder, rank, "renaming")
    found |= read_while_renamed(file) if rank else {"renames": rename_over(file)}
    meet(folder, rank, "delays")
    found["delays_ms"] = delays_ms(folder, rank)
    meet(folder, rank, "making")
    found["made"] = make_alone(folder)
    found["lock"] = lock(folder, rank)


def main(folder: Path) -> int:
    """Print what was found as one line of JSON; exit status 1 is for srun, to end the one that waits."""
    given = os.environ.get("SLURM_PROCID")
    child = os.fork() if given is None else 0
    rank = int(given) if given else int(not child)
    found: dict[str, Any] = {
        "rank": rank,
        "host": os.environ.get("SLURMD_NODENAME", socket.gethostname()),
        "python": platform.python_version(),
        "lacks": [name for name in COMMANDS if not shutil.which(name)],
        "error": "",
    }
    try:
        probe(folder, rank, found)
    except OSError as error:  # TimeoutError is one
        found["error"] = str(error)
        if child:
            os.kill(child, signal.SIGKILL)
    sys.stdout.write(f"{json.dumps(found)}\n")  # in one piece: two write to the same pipe
    sys.stdout.flush()
    if child:
        os.waitpid(child, 0)
    return int(bool(found["error"]))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
