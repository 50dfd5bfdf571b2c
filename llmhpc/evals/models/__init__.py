"""The model: loaded, asked for likelihoods and texts, each batch once, by one process or several."""
