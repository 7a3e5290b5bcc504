"""Trainers: stochastic gradient descent and alternating least squares."""
