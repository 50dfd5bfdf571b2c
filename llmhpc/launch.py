"""Plan a run and start it.

python -m llmhpc.launch [group=option] [key=value] [dry_run=true]
python -m llmhpc.launch -m seed=1,2,3 model=llama_4m,llama_1b    every combination, as one graph
"""

import sys
from pathlib import Path

from llmhpc import preflight
from llmhpc.config import Config, Executor
from llmhpc.errors import ConfigError, LlmhpcError, denied_in_one_line
from llmhpc.handoff import artifact, claim, runs
from llmhpc.handoff.state import TO_RUN, reason_to_run, state_of
from llmhpc.planning.compose import compose, points
from llmhpc.planning.plan import Step, plan, union

USAGE = 2  # exit status of a mistake in what the user asked for
MANY = ("-m", "--multirun")


@denied_in_one_line
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
        for stage in (stage for point in wanted.values() for stage in point.stages.values()):
            stage.settle()
        cfg = next(iter(wanted.values()))
        plans = {label: plan(point) for label, point in wanted.items()}
        steps = union(plans.values())
    except ConfigError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return USAGE
    if cfg.dry_run:
        show_plan(steps, plans)
    if not _passes(cfg, steps):
        return USAGE
    if cfg.dry_run:
        return 0
    try:
        return _launch(cfg, wanted, steps)
    except LlmhpcError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("llmhpc: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def show_plan(steps: list[Step], plans: dict[str, list[Step]]) -> None:
    """Print each step: done, running, partial or to run, and why; of a sweep, for which points it is not shared."""
    remade: set[Path] = set()
    for step in steps:
        state = state_of(step.out, step.stage.phases())
        why = state.note
        if not artifact.sealed(step.out):
            remade.add(step.out)
            if state.word == TO_RUN:
                why = reason_to_run(step, remade)
            why = "; ".join(filter(None, (why, step.stage.outline(step.inputs))))
        tasks = "+".join(str(phase.ranks) for phase in step.stage.phases())
        points = [label for label, own in plans.items() if step in own]
        if len(points) < len(plans):
            why = f"[{'; '.join(points)}] {why}"
        print(f"{step.name:10} {state.word:8} {step.out.name:20} {tasks:>10} tasks  {why}")
    print(_estimate(steps, [s for s in steps if s.out in remade]))


def _estimate(steps: list[Step], todo: list[Step]) -> str:
    """Of the steps to do, an upper bound of what they may use (all they ask for, until their time limit), and
    what they read and write."""
    cpu = gpu = 0.0
    for step in todo:
        asked = step.stage.resources
        tasks = sum(phase.ranks for phase in step.stage.phases())
        hours = tasks * asked.timeout_min / 60
        cpu += hours * asked.cpus * step.stage.processes()
        gpu += hours * asked.gpus_per_node * asked.nodes
    size, files = preflight.footprint(steps)
    tokens = sum(step.stage.tokens() for step in todo)
    return (
        f"{len(todo)} steps to run; at most {cpu:,.0f} CPU-hours and {gpu:,.0f} GPU-hours by their time limits;"
        f" trains on {tokens:,} tokens; writes about {size / 1e9:,.1f} GB in {files:,} files"
    )


def _passes(cfg: Config, steps: list[Step]) -> bool:
    """Print what preflight finds; False if the run must not start."""
    findings = preflight.check(cfg, steps)
    for message, estimate in findings:
        warning = "warning: " if estimate and cfg.force else ""
        advice = "; or force=true" if estimate and not cfg.force else ""
        print(f"llmhpc: {warning}{message}{advice}", file=sys.stderr)
    return all(finding.estimate and cfg.force for finding in findings)


def _launch(cfg: Config, wanted: dict[str, Config], steps: list[Step]) -> int:
    if all(artifact.sealed(step.out) for step in steps):
        print(f"all {len(steps)} steps are done; nothing to run")
        _finish(steps)
        return 0
    record = runs.write(wanted, steps)
    if cfg.cluster.executor is Executor.slurm:
        from llmhpc.executors import slurm

        submission = slurm.submit(cfg.cluster, steps, record)
        for out, jobs in submission.jobs.items():
            how = "jobs" if out in submission.new else "joins"
            by = claim.other_user(out) if how == "joins" else ""
            print(f"{out.name:20} {how} {' '.join(jobs)}{f'  made by {by}' if by else ''}")
        print("submitted; python -m llmhpc.status shows how far it is")
        return 0
    from llmhpc.display import Display
    from llmhpc.executors import local

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
