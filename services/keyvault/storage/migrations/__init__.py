"""The history of the keyvault's tables."""
