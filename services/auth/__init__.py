"""Who a user is and on which devices they are signed in, and which organisation they belong to.

Owns users, their passwords, sign-ins and mails, organisations with their seats, the audit trail,
and the keys that sign access tokens. Publishes `user.registered`, `user.deleted`, `seat.assigned`,
`seat.released`, `organisation.deleted` and `mail.queued`. Listens to `subscription.changed`, since
the tier stands in every token, to `limit.reached`, `spend.reached`, `webhook.disabled`,
`payment.due`, `payment.overdue`, `subscription.ended` and `mail.queued` for mails, to
`voice.consent_given`, `voice.cloned` and `voice.removed` for the trail, and to `user.deleted` and
`user.forgotten`.
"""
