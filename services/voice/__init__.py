"""Voice: text becomes speech at a vendor, with the user's own key, streamed as it arrives.

Owns speeches: the hold on each paid call, its one terminal record, and the budget of characters
that admits it. Publishes `usage.recorded`; listens to `key.revoked`.
"""
