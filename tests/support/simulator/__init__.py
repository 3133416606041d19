"""The registry as a real HTTP process: what the vendor's services would answer, as far as it is known.

`python -m tests.support.simulator` runs it; tests use `tests.support.simulator.client.Simulator`. One port serves all
services, since their paths do not collide. The model (`registry.py`) knows nothing of HTTP; what may differ or go wrong
is data (`switches.py`, `faults.py`).
"""
