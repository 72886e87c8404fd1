"""What the suite needs for how many users: a model, what it is fed with, and a simulation."""
