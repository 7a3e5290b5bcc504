"""The mathematics: kernels, parameters, priors, the objective, and the row solver."""
