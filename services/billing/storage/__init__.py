"""What billing keeps: PostgreSQL rows. Of Valkey's counters it only reads."""
