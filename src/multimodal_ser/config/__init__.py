"""Every knob, and what decides a run's result."""
