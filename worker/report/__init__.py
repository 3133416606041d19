"""Reports: records in, lines out. A plan or a run as a table, JSON or NDJSON; nothing here reads, decides or prints."""
