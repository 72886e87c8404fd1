"""PostgreSQL, Valkey and Envoy as the wheels bring them: where they are and how they are run."""
