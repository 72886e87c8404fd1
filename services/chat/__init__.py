"""Conversations with the vendors' models, on the user's own keys and within their tier.

Owns chat sessions, messages and generations (the hold on every paid call). Publishes
`usage.recorded`, `usage.manifest` and `user.forgotten`. Listens to `key.validated`, `key.revoked`,
`usage.replay_requested` and `user.deleted`.
"""
