"""Stands in for the four vendors on their own wire formats; README.md is its manual."""
