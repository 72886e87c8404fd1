"""What was used, what it costs, and which tier a user has.

Owns the usage ledger, the price overrides, the subscriptions, and invoices with what was paid.
Publishes `subscription.changed`, `usage.replay_requested`, `usage.reported`, `usage.voided`,
`usage.adjusted`, `limit.reached`, `spend.reached`, `webhook.disabled`, `payment.due`,
`payment.overdue`, `subscription.ended` and `user.forgotten`. Listens to `usage.recorded`,
`usage.manifest`, `usage.voided`, `usage.adjusted`, `limit.refused`, `user.registered`,
`user.deleted` and `organisation.deleted`.
"""
