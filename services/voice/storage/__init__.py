"""What voice keeps: PostgreSQL rows, and Valkey counters and news that may be lost."""
