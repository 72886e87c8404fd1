"""What all services agree on. No file here knows a service's code."""
