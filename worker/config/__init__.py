"""The configuration: its models, each declared once, their reading from YAML with all mistakes, secrets, kinds.

Nothing here reads a registry or the store. `worker.runs.terms` has the settings that apply to a run.
"""
