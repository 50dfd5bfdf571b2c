"""Plan a run and start it.

python -m llmhpc.launch [group=option] [key=value] [dry_run=true]
python -m llmhpc.launch -m seed=1,2,3 model=llama_4m,llama_1b    every combination, as one graph
"""

import sys
import tempfile
from pathlib import Path

from llmhpc import artifact, runs
from llmhpc.compose import compose, points
from llmhpc.config import Config, Executor
from llmhpc.errors import ConfigError, LlmhpcError
from llmhpc.plan import Step, plan, union
from llmhpc.state import TO_RUN, reason_to_run, state_of

USAGE = 2  # exit status of a mistake in what the user asked for
MANY = ("-m", "--multirun")


def main(overrides: list[str]) -> int:
    """Exit status: 0 done or submitted, 1 a step failed, 2 a setting is wrong."""
    if {"-h", "--help"} & set(overrides):
        print(__doc__)
        return 0
    try:
        if many := [word for word in overrides if word in MANY]:
            wanted = points([word for word in overrides if word not in many])
        else:
            wanted = {"": compose(overrides)}
        cfg = next(iter(wanted.values()))
        steps = union(map(plan, wanted.values()))
        _check_here(cfg, steps)
    except ConfigError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return USAGE
    if cfg.dry_run:
        show_plan(steps)
        return 0
    try:
        return _launch(cfg, wanted, steps)
    except LlmhpcError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("llmhpc: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def show_plan(steps: list[Step]) -> None:
    """Print each step: done, running, partial or to run, and why."""
    remade: set[Path] = set()
    for step in steps:
        state = state_of(step.out, step.stage.phases())
        why = state.note
        if not artifact.sealed(step.out):
            remade.add(step.out)
            if state.word == TO_RUN:
                why = reason_to_run(step, remade)
        tasks = "+".join(str(phase.ranks) for phase in step.stage.phases())
        print(f"{step.name:10} {state.word:8} {step.out.name:20} {tasks:>10} tasks  {why}")
    print(_estimate([s for s in steps if s.out in remade]))


def _estimate(steps: list[Step]) -> str:
    """An upper bound of what the steps may use: what they ask for, until their time limit."""
    cpu = gpu = 0.0
    for step in steps:
        asked = step.stage.resources
        tasks = sum(phase.ranks for phase in step.stage.phases())
        hours = tasks * asked.timeout_min / 60
        cpu += hours * asked.cpus * step.stage.processes()
        gpu += hours * asked.gpus_per_node * asked.nodes
    return f"{len(steps)} steps to run; at most {cpu:,.0f} CPU-hours and {gpu:,.0f} GPU-hours by their time limits"


def _check_here(cfg: Config, steps: list[Step]) -> None:
    """Everything that can be known before anything is written."""
    for step in steps:
        if not artifact.sealed(step.out):
            try:
                step.stage.before_launch()
            except ConfigError as error:
                raise ConfigError(f"stages.{step.name}.{error}") from None
    _check_root(Path(cfg.root))
    if cfg.cluster.executor is not Executor.slurm:
        from llmhpc import local

        local.check_here(cfg.cluster, steps)
    elif not cfg.dry_run:
        from llmhpc import scheduler

        scheduler.check_here()


def _check_root(root: Path) -> None:
    """Raise ConfigError unless artifacts can be written below ``root``."""
    there = root.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise ConfigError(f"root={root}: {there} is a file; a folder that every node sees")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ConfigError(
            f"root={root}: {there} cannot be written ({error.strerror}); a folder that every node sees"
        ) from None


def _launch(cfg: Config, wanted: dict[str, Config], steps: list[Step]) -> int:
    if all(artifact.sealed(step.out) for step in steps):
        print(f"all {len(steps)} steps are done; nothing to run")
        _finish(steps)
        return 0
    record = runs.write(wanted, steps)
    if cfg.cluster.executor is Executor.slurm:
        from llmhpc import slurm

        submission = slurm.submit(cfg.cluster, steps, record)
        for out, jobs in submission.jobs.items():
            how = "jobs" if out in submission.new else "joins"
            print(f"{out.name:20} {how} {' '.join(jobs)}")
        print("submitted; python -m llmhpc.status shows how far it is")
        return 0
    from llmhpc import local
    from llmhpc.display import Display

    with Display() as display:
        done = local.run(cfg.cluster, steps, display)
    runs.end(record, "done" if done else "failed")
    if not done:
        _explain(steps)
        return 1
    _finish(steps)
    return 0


def _explain(steps: list[Step]) -> None:
    for step in steps:
        state = state_of(step.out, step.stage.phases())
        if state.word == "failed":
            print(f"llmhpc: {step.name} failed: {state.note}", file=sys.stderr)
            print(f"llmhpc: its log: {state.log or step.out / artifact.LOGS}", file=sys.stderr)


def _finish(steps: list[Step]) -> None:
    from llmhpc.display import results

    for line in results(steps):
        print(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
