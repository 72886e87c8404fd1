"""Who a user is and on which devices they are signed in.

Owns users, their passwords and their sign-ins, and the keys that sign access tokens. Publishes
`user.registered`; listens to `subscription.changed`, because the tier stands in every token.
"""
