"""Starts and supervises the processes of one machine, and its own Redis.

What a process does is in `worker.app`, `worker.tasks` and `worker.web`.
"""
