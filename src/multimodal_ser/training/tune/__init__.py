"""recordings + labels → an encoder fine-tuned end to end with its head, in one file.

Whoever asks a tuned model needs `tuned` alone; `loop` and `probe` make one.
"""
