"""The folder of YAML files: choices of values for the schemas that live beside the code."""
