"""The door for HTTP. `routes.py` says what is reached through the gateway and what never is."""
