"""Makes plans: lists a registry or reads a saved inventory, has `policies` decide, stores the plan.

Nothing is deleted here.
"""
