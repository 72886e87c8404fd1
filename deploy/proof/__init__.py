"""The proof: the compose deployment on a real engine, broken on purpose and held to account."""
