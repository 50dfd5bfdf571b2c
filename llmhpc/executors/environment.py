"""What a job's script does before Python starts: modules, variables, the code's snapshot, a container."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from llmhpc.config import Environment, Runtime

# Does what the arguments behind it ask for, -u -m MODULE ..., but does not look in the working folder first as
# Python itself does: that may be a checkout that somebody edits.
RUN_MODULE = (
    "import runpy, sys; sys.path[:] = filter(None, sys.path); sys.argv = sys.argv[3:];"
    " runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


@dataclass(frozen=True, kw_only=True)
class Script:
    """Pieces of a job's script; every value of the configuration is quoted but the lines of ``setup``."""

    setup: list[str]
    python: str  # how the interpreter is called, in shell
    srun: list[str]  # arguments of srun


def script(cluster: Environment, stage: Environment, *, root: Path, code: Path) -> Script:
    """For a stage on a cluster; ``root`` is seen inside a container, ``code`` goes to PYTHONPATH."""
    lines = [f"module load {shlex.quote(name)}" for name in [*cluster.modules, *stage.modules]]
    variables = cluster.variables | stage.variables
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    lines += [*cluster.setup, *stage.setup]
    lines.append("export PYTHONUNBUFFERED=1")
    lines.append(f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}")
    image, python = stage.image or cluster.image, stage.python or cluster.python
    runtime = stage.runtime if stage.image else cluster.runtime
    mounts = [f"{root}:{root}", *cluster.mounts, *stage.mounts]
    command = [python or (sys.executable if image is None else "python3")]
    command += ["-c", RUN_MODULE]
    srun = []
    if image and runtime is Runtime.apptainer:
        command = ["apptainer", "exec", "--bind", ",".join(mounts), image, *command]
    elif image:
        srun = [f"--container-image={image}", f"--container-mounts={','.join(mounts)}"]
    return Script(setup=lines, python=shlex.join(command), srun=srun)
