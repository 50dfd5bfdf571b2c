"""The page about a run: each section is a module that says what to show, and a template beside it."""
