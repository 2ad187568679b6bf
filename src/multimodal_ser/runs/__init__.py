"""runs/<experiment>/<name>-<hash8>/: one fitted model with all it needs to be reused."""
