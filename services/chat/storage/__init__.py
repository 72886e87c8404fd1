"""What chat keeps: PostgreSQL rows, and Valkey counters that may be lost."""
