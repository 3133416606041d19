"""Tells people and other programs how runs ended. Never delays a run."""
