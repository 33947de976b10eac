"""The node's database: a DuckDB file, written by one thread and read by any number."""
