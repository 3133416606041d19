"""Starts and supervises the processes of one machine, and its own Redis.

`worker.app`, `worker.tasks` and `worker.web` contain the work of these processes.
"""
