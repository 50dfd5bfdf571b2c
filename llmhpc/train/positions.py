"""The place of each token in its document, for attention and positions that begin anew with each."""

import numpy as np


def in_documents(tokens: np.ndarray, eos_id: int | None) -> np.ndarray | None:
    """int64 (B, S) of int64 (B, S + 1) tokens, the last of which is a label only; None without ``eos_id``.

    An eos ends its document, the next token is at 0, and so is the first one of a sequence, wherever in its document
    that is. The ids say the same as the index of documents does, since an eos that is spelt out in a text is
    ordinary text (``tokens.encode``); they are there in every packing and in text that is tokenized as it is read.
    """
    if eos_id is None:
        return None
    places = np.arange(tokens.shape[1] - 1)
    begins = np.zeros((len(tokens), len(places)), dtype=np.int64)
    begins[:, 1:] = np.where(tokens[:, :-2] == eos_id, places[1:], 0)
    positions: np.ndarray = places - np.maximum.accumulate(begins, axis=1)
    return positions
