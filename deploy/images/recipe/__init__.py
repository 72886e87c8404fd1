"""What deploy/Dockerfile runs while it builds: `python -m deploy.images.recipe.<step>`."""
