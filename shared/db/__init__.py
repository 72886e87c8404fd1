"""PostgreSQL: the pool, the unit of work, the outbox and inbox."""
