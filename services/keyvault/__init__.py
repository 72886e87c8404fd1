"""The keyvault: owns keys for AI vendors, users' and organisations', and the trail of their use.

It publishes `key.validation_requested`, `key.validated` and `key.revoked`, and listens to
`key.validation_requested`, `user.deleted`, `seat.*` and `organisation.deleted`. Nobody reads a key
out of it: the egress proxy asks for the header of one call at a time.
"""
