"""Nouns of the keyvault: keys of users, the envelope they lie in, the keyring that opens it."""
