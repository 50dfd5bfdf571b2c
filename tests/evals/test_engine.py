"""What importing lighteval must not do to the rest of the process."""

import torch

from llmhpc.evals import engine


def test_gradients_stay_on(tmp_path):
    engine.prepare(tmp_path)
    import lighteval.pipeline  # noqa: F401

    assert torch.is_grad_enabled()
