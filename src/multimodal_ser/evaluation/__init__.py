"""Scores of predictions, their confidence intervals, and tests of differences."""
