"""Conversations with the vendors' models, on the user's own keys and within their tier.

Owns chat sessions, messages and generations (the hold on every paid call). Publishes
`usage.recorded`. Listens to `key.validated` and `key.revoked`.
"""
