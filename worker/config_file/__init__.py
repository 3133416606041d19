"""Reads the configuration file: YAML -> a checked document -> `worker.config.Settings`, or every mistake in it."""
