"""One suite for every driver, run with a server of its kind: the behaviour that the program needs of every kind.

`server.py` has the interface of a server, `servers/` one adapter for each. A fault proxy in front of each server makes
responses late, cut, refused or hostile. `python -m tests.registries.interface` prints the table.
"""
