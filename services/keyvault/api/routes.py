"""The door for HTTP: users' keys outside, the check of the egress inside."""

from services.keyvault.api import account_export, egress, keys, organisation_keys

routers = (organisation_keys.router, keys.router)
internal_routers = (account_export.router,)
internal_hot_routes = (egress.CHECK,)
