"""recordings + labels → an encoder fine-tuned end to end with its head, in one file.

Predicting with a tuned model needs `tuned` alone; `loop` and `probe` fit one.
"""
