"""The keyvault: owns users' keys for AI vendors and the trail of their use.

It publishes `key.validation_requested`, `key.validated` and `key.revoked`, and listens to
`key.validation_requested`. Nobody reads a key out of it: the egress proxy asks for the header of
one call at a time.
"""
