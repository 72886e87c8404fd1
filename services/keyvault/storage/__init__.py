"""What the keyvault keeps: sealed keys, their trail, and the canaries of the keyring."""
