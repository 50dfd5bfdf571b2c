"""From documents to tokens: the order of documents, the tokenizer, the token files and their reader."""
