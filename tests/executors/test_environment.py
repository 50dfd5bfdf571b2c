"""What a job's script sets up; every value is quoted."""

import sys
from pathlib import Path

import pytest

from llmhpc.config import Environment, Runtime
from llmhpc.errors import ConfigError
from llmhpc.executors.environment import script

PATHS = {"root": Path("/shared/my runs"), "code": Path("/shared/my runs/code/1")}


def test_modules_variables_and_lines_come_in_order_and_a_stage_wins():
    cluster = Environment(
        modules=["cuda/12"], variables={"A": "1", "B": "$(touch x)"}, setup=["ulimit -n 9"]
    )
    made = script(cluster, Environment(modules=["gcc"], variables={"A": "2"}), **PATHS)
    assert made.setup == [
        "module load cuda/12", "module load gcc", "export A=2", "export B='$(touch x)'", "ulimit -n 9",
        "export PYTHONSAFEPATH=1", "export PYTHONPATH='/shared/my runs/code/1'${PYTHONPATH:+:$PYTHONPATH}",
    ]  # fmt: skip
    assert (made.python, made.srun) == (sys.executable, [])


def test_an_interpreter_of_a_stage_is_taken():
    made = script(Environment(python="/a/python"), Environment(python="/b c/python"), **PATHS)
    assert made.python == "'/b c/python'"


def test_an_apptainer_image_is_opened_around_python_with_the_root_in_it():
    made = script(Environment(image="/i.sif", mounts=["/scratch:/scratch"]), Environment(), **PATHS)
    assert made.python == (
        "apptainer exec --bind '/shared/my runs:/shared/my runs,/scratch:/scratch' /i.sif python3"
    )


def test_a_pyxis_image_is_srun_s_to_open():
    made = script(Environment(), Environment(image="nvcr.io#x", runtime=Runtime.pyxis), **PATHS)
    assert made.python == "python3"
    assert made.srun == [
        "--container-image=nvcr.io#x", "--container-mounts=/shared/my runs:/shared/my runs",
    ]  # fmt: skip


def test_a_variable_with_no_name_is_refused():
    with pytest.raises(ConfigError, match="variables.A B: a name"):
        Environment(variables={"A B": "1"})
