"""Does what the policies decide: lists, plans, deletes, records, reports. Decides nothing itself."""

__version__ = "0.1.0"
