"""One suite for every driver, run with a server of its kind: what the rest of the program relies on, whatever the kind.

`server.py` says what the suite needs of a server, `servers/` has one adapter for each, `door.py` stands before all of
them and makes their answers late, cut, refused or hostile. `python -m tests.registries.interface` prints the table.
"""
