"""Material + split + models → run folders: the experiments, each a list of runs.

A protocol (`protocols`) plans an experiment (`plans`), and `running.make` makes its runs.
"""
