"""How models are fitted: networks, baselines, the stacked model and fine-tuned encoders."""
