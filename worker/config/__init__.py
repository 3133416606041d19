"""The configuration: settings, their loading from YAML with every mistake named, watching, secrets, kinds.

Nothing here asks a registry or the store; the settings that bind a run are in `worker.runs.lifecycle`.
"""
