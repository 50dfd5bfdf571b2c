"""What importing lighteval must not do to the rest of the process; a process of its own, as imports are for good."""

import subprocess
import sys
import textwrap

BEGIN = """
import sys, socket
def refuse(*address): raise OSError(f"network: {address}")
socket.getaddrinfo = refuse
from llmhpc.evals.models import engine
engine.prepare()
"""


def in_a_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BEGIN + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_only_what_scoring_needs_is_imported():
    heavy = "inspect_ai datasets nltk pandas pytablewriter sacrebleu scipy sklearn nanotron openai"
    print_them = f"""
        from lighteval.metrics.metrics_corpus import CorpusLevelPerplexityMetric
        from lighteval.metrics.metrics_sample import ExactMatches, LoglikelihoodAcc
        from lighteval.metrics.sample_preparator import PerplexityPreparator
        from lighteval.tasks.requests import Doc
        print([name for name in {heavy.split()} if name in sys.modules])
    """
    assert in_a_process(print_them) == "[]"


def test_what_was_left_out_is_there_for_all_who_need_it_later():
    use_it = """
        import torch
        from lighteval.metrics import metrics_corpus, metrics_sample
        assert metrics_sample.edit_distance("hand", "hat") == 2  # nltk's
        assert metrics_corpus.sklearn.metrics.f1_score([0, 1, 1], [0, 1, 1]) == 1
        assert metrics_sample.hypergeom.sf(0, 10, 10, 1) == 1  # scipy's
        bleu = metrics_corpus.CorpusLevelTranslationMetric("bleu").get_metric()
        import sacrebleu, scipy.stats, sklearn.linear_model, pandas
        assert isinstance(bleu, sacrebleu.BLEU)
        assert pandas.DataFrame({"a": [1]}).a.sum() == 1
        from transformers import LlamaConfig, LlamaForCausalLM
        shape = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, vocab_size=9)
        model = LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, eos_token_id=None))
        ids = torch.tensor([[1, 2]])
        assert model.generate(ids, max_new_tokens=3, do_sample=False).shape == (1, 5)
        assert torch.is_grad_enabled()
        print(sum("_Placeholder" in str(type(module)) for module in sys.modules.values()))
    """
    assert in_a_process(use_it) == "0"


def test_a_model_is_loaded_without_the_packages_of_others(untrained_step):
    load_it = f"""
        import gc
        from pathlib import Path
        from llmhpc.evals.models import exports
        exports.load(exports.find_exports(Path({str(untrained_step)!r}))[0])
        assert "scipy" not in sys.modules and gc.isenabled() and gc.get_freeze_count() > 100_000
        from transformers.loss import loss_for_object_detection as pictures
        assert [list(half) for half in pictures.linear_sum_assignment([[1, 0], [0, 1]])] == [[0, 1], [1, 0]]
        before = gc.get_freeze_count()
        exports.load(exports.find_exports(Path({str(untrained_step)!r}))[0])
        print(gc.get_freeze_count() - before)
    """
    assert in_a_process(load_it) == "0"
