"""From documents to tokens: the order of documents, the tokenizer, the token files and their reader."""

EOS = "<|endoftext|>"  # id 0: begins and ends documents
PAD = "<|pad|>"  # id 1; a user's own special tokens follow
SPECIALS = (EOS, PAD)
BYTES = 256  # the alphabet: with every byte in it nothing is unknown
