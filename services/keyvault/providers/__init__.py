"""The outside world of the keyvault: the vendors it asks about keys, and where the keyring lies."""
