"""What was used, what it costs, and which tier a user has.

Owns the usage ledger, the price overrides and the subscriptions. Publishes `subscription.changed`
and `usage.replay_requested`. Listens to `usage.recorded`, `usage.manifest`,
`user.deleted` and `organisation.deleted`.
"""
