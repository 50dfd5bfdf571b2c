"""What a job's script sets up; every value is quoted."""

import shlex
import subprocess
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
        "export PYTHONUNBUFFERED=1", "export PYTHONPATH='/shared/my runs/code/1'${PYTHONPATH:+:$PYTHONPATH}",
    ]  # fmt: skip
    assert (shlex.split(made.python)[0], made.srun) == (sys.executable, [])


def test_a_module_is_not_looked_for_in_the_working_folder(tmp_path):
    here, code = tmp_path / "checkout", tmp_path / "code"
    for folder in (here, code):
        folder.mkdir()
        (folder / "module.py").write_text("import sys; print(__name__, __file__, sys.argv[1:])")
    made = script(Environment(), Environment(), root=tmp_path, code=code)
    lines = [*made.setup, f"{made.python} -u -m module a b"]  # as submitit calls it
    out = subprocess.check_output(["bash", "-c", "\n".join(lines)], text=True, cwd=here)
    assert out == f"__main__ {code}/module.py ['a', 'b']\n"


def test_an_interpreter_of_a_stage_is_taken():
    made = script(Environment(python="/a/python"), Environment(python="/b c/python"), **PATHS)
    assert shlex.split(made.python)[0] == "/b c/python"


def test_an_apptainer_image_is_opened_around_python_with_the_root_in_it():
    made = script(Environment(image="/i.sif", mounts=["/scratch:/scratch"]), Environment(), **PATHS)
    assert made.python.startswith(
        "apptainer exec --bind '/shared/my runs:/shared/my runs,/scratch:/scratch' /i.sif python3 -c "
    )


def test_a_pyxis_image_is_srun_s_to_open():
    made = script(Environment(), Environment(image="nvcr.io#x", runtime=Runtime.pyxis), **PATHS)
    assert shlex.split(made.python)[0] == "python3"
    assert made.srun == [
        "--container-image=nvcr.io#x", "--container-mounts=/shared/my runs:/shared/my runs",
    ]  # fmt: skip


def test_a_variable_with_no_name_is_refused():
    with pytest.raises(ConfigError, match="variables.A B: a name"):
        Environment(variables={"A B": "1"})
