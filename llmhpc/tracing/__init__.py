"""From a token back to its page, and from an address forward to its tokens or to what dropped it."""
