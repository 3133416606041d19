"""Plans from a saved inventory, however large: read, decided and written a repository at a time, by several processes.

    F.ndjson ─▶ parts of the file ─▶ processes: read, decide, spool ─▶ totals ─▶ the plan streams

Nothing of the plan is given out before the file was read wholly.
"""

from worker.planning.offline.inventory_file import InventoryError
from worker.planning.offline.planning import OfflinePlan, plan_inventory

__all__ = ["InventoryError", "OfflinePlan", "plan_inventory"]
