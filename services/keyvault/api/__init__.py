"""The door for HTTP: users' keys outside, the check of the egress inside."""
