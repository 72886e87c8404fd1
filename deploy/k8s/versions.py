"""What the base is tested with; an overlay chooses what runs."""

VERSION = "0.1.0"
ENVOY_VERSION = "v1.40.0"
