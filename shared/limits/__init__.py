"""Limits that hold under any burst and across any number of replicas."""
