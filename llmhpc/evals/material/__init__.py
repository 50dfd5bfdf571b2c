"""What questions are made of: rows of data sets, documents, prompts."""
