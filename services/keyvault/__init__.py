"""The keyvault: owns keys for AI vendors, users' and organisations', and the trail of their use.

Nobody reads a key out of it: the egress proxy asks for the header of one call at a time. Publishes
`key.validation_requested`, `key.validated`, `key.revoked` and `user.forgotten`. Listens to
`key.validation_requested`, `user.deleted`, `seat.assigned`, `seat.released` and
`organisation.deleted`.
"""
