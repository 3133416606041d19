"""Random histories against a model of a registry."""
