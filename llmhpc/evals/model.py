"""The model that lighteval drives: our own scoring behind its interface."""

from collections.abc import Callable

from lighteval.models.abstract_model import LightevalModel
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.prompt_manager import PromptManager
from lighteval.tasks.requests import Doc
from transformers import PreTrainedTokenizerBase

from llmhpc.errors import StageError
from llmhpc.evals.exports import Checkpoint
from llmhpc.evals.scoring import Pair, Scorer


class ScoringModel(LightevalModel):
    """One checkpoint. It scores texts; tasks that need generated text are refused.

    Args:
        checkpoint: model, tokenizer and the hash of the weights.
        scorer: scores pairs of token ids with that model.
        progress: called with the number of documents done, of those that one call asks for.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        scorer: Scorer,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self.scorer = scorer
        self.prompt_manager = PromptManager(tokenizer=checkpoint.tokenizer)
        self.progress = progress
        self._tokenizer = checkpoint.tokenizer

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The checkpoint's own."""
        return self._tokenizer

    @property
    def add_special_tokens(self) -> bool:
        """False: the token that begins a document is put there by this class."""
        return False

    @property
    def max_length(self) -> int:
        """Positions of the model."""
        return self.scorer.max_length

    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        """Log-likelihood of each choice after its query; the query begins a document.

        The token counts are the true ones (lighteval's own backend pads them, which turns the token norm
        into no norm), and where a document has an unconditioned query the likelihoods without context
        are appended, where the PMI norm reads them.
        """
        pairs: list[Pair] = []
        responses = []
        for doc in docs:
            queries = [self.prompt_manager.prepare_prompt(doc)]
            if doc.unconditioned_query is not None:
                queries.append(doc.unconditioned_query)
            encoded = [self.tok_encode_pair(q, doc.choices, pairwise=True) for q in queries]
            pairs += [
                Pair((self.tokenizer.bos_token_id, *context), tuple(choice))
                for contexts, choices in encoded
                for context, choice in zip(contexts, choices, strict=True)
            ]
            contexts, choices = encoded[0]
            response = ModelResponse(input_tokens=contexts[0], output_tokens=choices)
            response.logprobs = [0.0] * (len(choices) * len(queries))
            responses.append(response)
        return self._fill(pairs, responses)

    def loglikelihood_rolling(self, docs: list[Doc]) -> list[ModelResponse]:
        """Log-likelihood of each text from its beginning, as one number for each window.

        Windows are disjoint and as long as the model allows; in each the first token is predicted from
        the one token before it alone, as in lm-evaluation-harness (make_disjoint_window).
        """
        pairs: list[Pair] = []
        responses = []
        for doc in docs:
            text = doc.query if doc.original_query is None else doc.original_query
            tokens = [self.tokenizer.bos_token_id, *self.tok_encode(text)]
            windows = range(0, len(tokens) - 1, self.max_length)
            for start in windows:
                end = start + 1 + self.max_length
                pairs.append(Pair((tokens[start],), tuple(tokens[start + 1 : end])))
            response = ModelResponse(logprobs=[0.0] * len(windows), output_tokens=[tokens[1:]])
            responses.append(response)
        return self._fill(pairs, responses)

    def greedy_until(self, docs: list[Doc]) -> list[ModelResponse]:
        """Refused with StageError."""
        raise StageError(f"task {docs[0].task_name}: needs generated text; only scoring is there")

    def _fill(self, pairs: list[Pair], responses: list[ModelResponse]) -> list[ModelResponse]:
        """Score all pairs and hand out the scores: each response has room for its own."""
        count = len(responses)
        scores = iter(self.scorer.score(pairs, lambda done: self.progress(int(done * count))))
        for response in responses:
            mine = [next(scores) for _ in response.logprobs]
            response.logprobs = [score.logprob for score in mine]
            response.argmax_logits_eq_gold = [score.greedy for score in mine]
            response.truncated_tokens_count = max((s.truncated for s in mine), default=0)
        return responses
