"""The life of a run: its states, schedule, leases, the settings and the evidence that bind it.

How a plan is made is in `worker.planning`, how it is carried out in `worker.sweep`.
"""
