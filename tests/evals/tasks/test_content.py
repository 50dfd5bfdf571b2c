"""What a task of files noted at the launch."""

import json

import pytest

from llmhpc.errors import ConfigError
from llmhpc.evals.tasks import Material, ask, choice


def test_data_that_changes_behind_the_launch_is_refused(tmp_path):
    row = {"question": "2 + 2?", "choices": ["4", "5"], "gold": 0}
    file = tmp_path / "test.jsonl"
    file.write_text(json.dumps(row) + "\n")
    cfg = choice.Config(data_dir=str(tmp_path))
    cfg.settle()
    assert len(ask(cfg, "mine", Material())) == 2
    file.write_text(json.dumps(row | {"gold": 1}) + "\n")
    with pytest.raises(ConfigError, match=r"data_dir=.*: changed since the launch; launch again"):
        ask(cfg, "mine", Material())
