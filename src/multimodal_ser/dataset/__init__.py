"""What an experiment reads: examples, material, tasks."""
