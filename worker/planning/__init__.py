"""Makes plans: lists a registry or reads a saved inventory, calls `policies` to decide, stores the plan.

Nothing is deleted here.
"""
