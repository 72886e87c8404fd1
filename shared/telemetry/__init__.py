"""Logs and metrics, alike in every service."""
