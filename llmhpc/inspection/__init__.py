"""What went in, what stayed and what went, by rule and domain, with documents to read: small files for people."""
