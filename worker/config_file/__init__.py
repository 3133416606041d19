"""Reads the configuration file: YAML -> a document, checked key by key -> `worker.config.Settings`, or every mistake."""
