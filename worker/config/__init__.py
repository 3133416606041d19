"""The configuration: its models, declared once; their reading from YAML with every mistake named; secrets, kinds.

Nothing here asks a registry or the store; the settings that bind a run now are in `worker.runs.terms`.
"""
