"""Voice: text becomes speech at a vendor, with the user's own key, streamed as it arrives.

Owns speeches: the hold on each paid call, its one terminal record, and the budget of characters
that admits it; own settings of voices, clones, and short speeches that are kept. Publishes
`usage.recorded`, `usage.manifest`, `limit.refused`, `voice.consent_given`, `voice.cloned`,
`voice.removed` and `user.forgotten`. Listens to `key.revoked`, `usage.replay_requested` and
`user.deleted`.
"""
