"""The model that lighteval drives: our own scoring and writing behind its interface."""

from collections.abc import Callable, Sequence

from lighteval.models.abstract_model import LightevalModel, ModelConfig
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.prompt_manager import PromptManager
from lighteval.tasks.requests import Doc
from transformers import PreTrainedTokenizerBase

from llmhpc.errors import StageError
from llmhpc.evals.items import Writing
from llmhpc.evals.models.exports import Checkpoint
from llmhpc.evals.models.scoring import Pair, Scorer
from llmhpc.evals.models.writing import Writer


class ScoringModel(LightevalModel):
    """One checkpoint, which scores texts and writes them.

    Args:
        checkpoint: model and tokenizer.
        scorer: scores pairs of token ids with that model.
        writer: writes behind prompts with it.
        progress: called with the number of documents done, of those that one call asks for.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        scorer: Scorer,
        writer: Writer,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        name = str(checkpoint.model.name_or_path)
        self.config = ModelConfig(model_name=name)  # greedily, unless a caller says how
        self.scorer, self.writer = scorer, writer
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
    def device(self) -> str:
        """The kind of the model's device."""
        return str(self.scorer.model.device.type)

    @property
    def max_length(self) -> int:
        """Positions of the model."""
        return self.scorer.max_length

    def loglikelihood(self, docs: list[Doc]) -> list[ModelResponse]:
        """Log-likelihood of each choice after its query, and its lead where it has one; the query begins a document.

        The token counts are the true ones (lighteval's own backend pads them, which turns the token norm
        into no norm), and where a document has an unconditioned query the likelihoods without context
        are appended, where the PMI norm reads them.

        Raises:
            StageError: a choice is empty, or longer than the model.
        """
        pairs: list[Pair] = []
        responses = []
        for doc in docs:
            leads = (doc.specific or {}).get("leads")
            encoded = [self._encoded(self.prompt_manager.prepare_prompt(doc), doc.choices, leads)]
            if doc.unconditioned_query is not None:
                encoded.append(self._encoded(doc.unconditioned_query, doc.choices))
            pairs += [
                Pair((self.tokenizer.bos_token_id, *context), tuple(choice))
                for contexts, choices in encoded
                for context, choice in zip(contexts, choices, strict=True)
            ]
            contexts, choices = encoded[0]
            self._check_lengths(doc, choices)
            response = ModelResponse(input_tokens=contexts[0], output_tokens=choices)
            response.logprobs = [0.0] * (len(choices) * len(encoded))
            responses.append(response)
        return self._fill(pairs, responses)

    def _check_lengths(self, doc: Doc, choices: list[list[int]]) -> None:
        for text, tokens in zip(doc.choices, choices, strict=True):
            if not 0 < len(tokens) <= self.max_length:
                raise StageError(
                    f"task {doc.task_name}: a choice of {len(tokens)} tokens, {text[:40]!r}: "
                    f"1 to {self.max_length}, the model's positions"
                )

    def _encoded(
        self, query: str, choices: list[str], leads: Sequence[str] | None = None
    ) -> tuple[list[list[int]], list[list[int]]]:
        """What stands before each choice, and the choice, as tokens."""
        if leads is None:
            return self.tok_encode_pair(query, choices, pairwise=True)
        each = [
            self.tok_encode_pair(query + lead, [choice], pairwise=True)
            for lead, choice in zip(leads, choices, strict=True)
        ]
        return [before[0] for before, _ in each], [choice[0] for _, choice in each]

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
        """Text behind each query: greedy, or samples at the temperature of the model's generation parameters.

        Raises:
            StageError: a task that does not say how long its texts are, or asks for several that would be equal.
        """
        writings = [self._writing(doc) for doc in docs]
        responses: dict[int, ModelResponse] = {}
        for writing in dict.fromkeys(writings):
            mine = [number for number, other in enumerate(writings) if other == writing]
            written = self.write([docs[number] for number in mine], writing, len(responses))
            responses.update(zip(mine, written, strict=True))
        return [responses[number] for number in range(len(docs))]

    def write(self, docs: Sequence[Doc], writing: Writing, before: int = 0) -> list[ModelResponse]:
        """Text behind each query, where ``before`` documents were written before these."""
        prompts = [self.prompt_manager.prepare_prompt(doc) for doc in docs]
        count = len(docs)
        written = self.writer.write(
            prompts, writing, lambda done: self.progress(before + int(done * count))
        )
        lost = [self.writer.fit(prompt, writing)[1] for prompt in prompts]
        return [
            ModelResponse(input=prompt, text=texts, truncated_tokens_count=tokens)
            for prompt, texts, tokens in zip(prompts, written, lost, strict=True)
        ]

    def _writing(self, doc: Doc) -> Writing:
        how = self.config.generation_parameters
        if doc.generation_size is None:
            raise StageError(f"task {doc.task_name}: generation_size=None; how many tokens at most")
        if doc.num_samples > 1 and not how.temperature:
            raise StageError(
                f"task {doc.task_name}: num_samples={doc.num_samples}; 1, or a temperature above 0"
            )
        return Writing(
            max_tokens=doc.generation_size,
            stop=tuple(doc.stop_sequences or ()),
            temperature=how.temperature,
            samples=doc.num_samples,
            seed=how.seed or 0,
        )

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
