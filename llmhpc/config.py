"""Every setting of a run: names, types, defaults, checks. YAML in conf/ only picks values."""

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar, NamedTuple

from omegaconf import MISSING

from llmhpc.errors import ConfigError

NOT_IDENTITY = {"identity": False}  # field metadata: where or how fast it runs, not what it makes
IDENTITY_IF_SET = {"identity": "if set"}  # of a field that older steps had not, and do without


class Executor(Enum):
    """Where tasks run: this process, this machine through submitit, or a Slurm cluster."""

    debug = "debug"
    local = "local"
    slurm = "slurm"


class Phase(NamedTuple):
    """One array of tasks inside a step; a gate stands after each phase."""

    name: str
    ranks: int


class Finding(NamedTuple):
    """What is wrong with a run that has not begun: the key, the value and what would be right."""

    message: str
    estimate: bool = False  # true: a reckoning or a rule of thumb, which force=true overrules


class Footprint(NamedTuple):
    """What a step will have on disk at its fullest, to an order of magnitude."""

    bytes: int
    files: int


@dataclass(kw_only=True, slots=True)
class Resources:
    """What one task (or, for a multi-process step, one node) asks of the cluster."""

    nodes: int = 1
    cpus: int = 1  # per process
    gpus_per_node: int = 0
    gpu_mem_gb: float = 80.0  # what one GPU has; used if gpus_per_node is set
    gpu_tflops: float = 989.0  # of one GPU at its best, dense bfloat16: an H100; for estimates
    mem_gb: float = 2.0  # per node
    timeout_min: int = 60

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus", "mem_gb", "timeout_min"):
            at_least(self, name, 1 if name != "mem_gb" else 0.1)
        at_least(self, "gpus_per_node", 0)
        at_least(self, "gpu_mem_gb", 1)
        at_least(self, "gpu_tflops", 1)

    def check_processes(self, number: int, layout: str) -> None:
        """Raise ConfigError unless nodes take equal shares of a task's processes, and each GPU has one.

        ``layout`` says what their number comes from.
        """
        if number % self.nodes:
            raise ConfigError(
                f"resources.nodes={self.nodes}: a divisor of {layout} = {number} processes"
            )
        each = number // self.nodes
        if self.gpus_per_node and each != self.gpus_per_node:
            raise ConfigError(
                f"resources.gpus_per_node={self.gpus_per_node}: {each}, one for each process of a node"
            )


class Runtime(Enum):
    """What opens a container image on the nodes."""

    apptainer = "apptainer"
    pyxis = "pyxis"


@dataclass(kw_only=True, slots=True)
class Environment:
    """What a job sets up before Python starts; a stage's own comes after the cluster's, and wins."""

    modules: list[str] = field(default_factory=list)  # module load
    variables: dict[str, str] = field(default_factory=dict)
    setup: list[str] = field(default_factory=list)  # lines of shell, as they are
    python: str | None = None  # the interpreter; default: the one that launches
    image: str | None = None  # a container image that holds the interpreter
    runtime: Runtime = Runtime.apptainer
    mounts: list[str] = field(default_factory=list)  # host:container, beside the root

    def __post_init__(self) -> None:
        for name in self.variables:
            if not name.isidentifier():
                raise ConfigError(f"variables.{name}: a name of letters, digits and _")


@dataclass(kw_only=True, slots=True)
class Stage:
    """What every stage has; jobs/<kind>.py adds the rest.

    ``roles`` names the inputs that ``run`` reads (role -> what plays it), ``needs`` says which step of
    this pipeline plays each role.
    """

    group: ClassVar[str] = "stage"
    roles: ClassVar[dict[str, str]] = {}
    # roles that can be read while they are being made, and the file that tells what is there already; no file: the
    # stage does without the role until it is there
    early: ClassVar[dict[str, str]] = {}
    seeded: ClassVar[bool] = False  # True: the run's seed changes what this stage makes
    # True: made once of all copies of its inputs; the role r then reads as r.0, r.1, ...
    gathers: ClassVar[bool] = False
    in_place: ClassVar[bool] = (
        False  # True: writes straight into the step's directory, and resumes from it
    )

    kind: str = MISSING
    needs: dict[str, str] = field(default_factory=dict, metadata=NOT_IDENTITY)
    ranks: int = 1  # array tasks, which is also the number of output shards
    # copies of this stage and of all that is behind it, with the run's seed, the next one, and so on
    seeds: int = field(default=1, metadata=NOT_IDENTITY)
    resources: Resources = field(default_factory=Resources, metadata=NOT_IDENTITY)
    environment: Environment = field(default_factory=Environment, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        at_least(self, "ranks", 1)
        at_least(self, "seeds", 1)

    def phases(self) -> list[Phase]:
        """The arrays of this stage in order; most stages have one."""
        return [Phase("main", self.ranks)]

    def processes(self) -> int:
        """Processes that one task is made of, over all its nodes."""
        return 1

    def optional_roles(self) -> dict[str, str]:
        """Inputs that ``run`` reads where there are: role -> what plays it."""
        return {}

    def check_with(self, played_by: "dict[str, Stage]") -> None:
        """Raise ConfigError if this stage does not fit what plays its roles (role -> its stage)."""

    def settle(self) -> None:
        """Note in the settings what files outside of the root hold: another content is another step."""

    def before_launch(self) -> None:
        """Raise ConfigError if something that must be on this machine's disk is not there."""

    def foresee(
        self, inputs: dict[str, Path], out: Path, *, machine_gb: float | None
    ) -> list[Finding]:
        """What can be known to go wrong in this stage; messages begin with a field of it.

        ``inputs`` may not be sealed yet. ``machine_gb`` is the memory of the machine where that, and not
        resources.mem_gb, is the limit.
        """
        return []

    def memory_gb(self, played_by: "dict[str, Stage]") -> tuple[float, float]:
        """What a task takes of a node's memory and of a GPU's, by what plays its roles; 0 where that is not known."""
        return 0.0, 0.0

    def outline(self, inputs: dict[str, Path]) -> str:
        """What this stage will do, in numbers that a plan should show; ``inputs`` may not be sealed yet."""
        return ""

    def will_write(self, input_bytes: int) -> Footprint:
        """How much this stage writes if its inputs have ``input_bytes`` (0: not known)."""
        return Footprint(input_bytes, self.ranks)

    def expected_seconds(self, out: Path) -> float | None:
        """How long all of a task's work takes, by what was measured in ``out`` or beside it; None if unknown."""
        return None

    def tokens(self) -> int:
        """Tokens that a model is trained on here."""
        return 0


@dataclass(kw_only=True, slots=True)
class Recovery:
    """How often a task is started again after each way to end badly; a start that saved its work is not counted.

    A person who launches again starts the counts anew.
    """

    error: int = 0  # an error of the code or of the data: it would come again
    nan: int = 0  # a loss that is not finite
    timeout: int = 1  # the time limit
    preempted: int = 100
    node_fail: int = 10
    out_of_memory: int = 3  # each time with more memory
    killed: int = 3  # a signal from nobody knows where, or another process of the task lost
    hang: int = 3  # a training in which no step ended (stages.train.hang_timeout_min)
    disk_full: int = 3
    cancelled: int = 3  # scancel of a task; llmhpc.cancel ends the whole run
    requeued: int = 100  # by Slurm, which did not say why
    damaged: int = 3  # a file that is not what its rank wrote
    memory_factor: float = 1.5  # more memory after out_of_memory
    exclude_node_after: int = 2  # failures of a node; 0: never exclude one

    def __post_init__(self) -> None:
        for name in (*CAUSES, "exclude_node_after"):
            at_least(self, name, 0)
        at_least(self, "memory_factor", 1)


CAUSES = (
    "error",
    "nan",
    "timeout",
    "preempted",
    "node_fail",
    "out_of_memory",
    "killed",
    "hang",
    "disk_full",
    "cancelled",
    "requeued",
    "damaged",
)


@dataclass(kw_only=True, slots=True)
class Budget:
    """What the steps of a run may cost in all, by the ledger; 0: as much as it takes.

    Once it is spent nothing more is submitted, and what waits leaves the queue; tasks at work come to their end.
    """

    cpu_hours: float = 0.0
    gpu_hours: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, "cpu_hours", 0)
        at_least(self, "gpu_hours", 0)


@dataclass(kw_only=True, slots=True)
class Cluster:
    """Where tasks run. Settings of Slurm are used by executor=slurm only."""

    executor: Executor = Executor.local
    max_parallel: int = (
        0  # simultaneous tasks of one step; 0: as many as there are cores, or no cap on Slurm
    )
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    environment: Environment = field(default_factory=Environment)
    slurm: dict[str, str] = field(
        default_factory=dict
    )  # further sbatch options: name without dashes -> value, empty for a flag
    warning_s: int = 90  # how long before its time limit training is told to save
    requeue: bool = (
        True  # a cut training goes back into the queue as the same job, where scontrol can
    )
    # jobs submitted at once for a training, each going on where the one before was cut; 0: one where it can requeue
    # itself, else as many as the time of a step asks for that was measured before
    links: int = 0
    recovery: Recovery = field(default_factory=Recovery)
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        at_least(self, "max_parallel", 0)
        at_least(self, "warning_s", 1)
        at_least(self, "links", 0)


@dataclass(kw_only=True, slots=True)
class Notify:
    """Whom llmhpc.tick tells that a run is over, as JSON: run, state, why, results."""

    command: list[str] = field(default_factory=list)  # reads it from its standard input
    webhook: str = ""  # an address that takes it by POST


@dataclass(kw_only=True, slots=True)
class Config:
    """One run: where, what, and the stages in between."""

    name: str = MISSING
    root: str = "runs"  # a folder that every node sees
    seed: int = 0
    dry_run: bool = False  # print the plan and stop
    force: bool = False  # start although an estimate says that it will not go well
    cluster: Cluster = field(default_factory=Cluster)
    notify: Notify = field(default_factory=Notify)
    stages: dict[str, Stage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, name in (("name", self.name), *(("stages", name) for name in self.stages)):
            if name != MISSING and not re.fullmatch(r"[\w.-]+", name):
                raise ConfigError(f"{what}={name!r}: letters, digits, and _ . - only")
        if "%" in self.root or not self.root.isprintable():  # Slurm fills in patterns such as %j
            raise ConfigError(f"root={self.root!r}: a path without % and control characters")


def at_least(owner: object, name: str, least: float) -> None:
    """Raise ConfigError unless the field ``name`` of ``owner`` is ``least`` or more."""
    value = getattr(owner, name)
    if value < least:
        raise ConfigError(f"{name}={value}: {least} or more")


def fraction(owner: object, *names: str) -> None:
    """Raise ConfigError unless each named field of ``owner`` lies in 0..1."""
    for name in names:
        if not 0 <= (value := getattr(owner, name)) <= 1:
            raise ConfigError(f"{name}={value}: a fraction from 0 to 1")
