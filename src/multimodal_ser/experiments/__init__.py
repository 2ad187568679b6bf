"""Material + split + models → run folders: experiments, each a list of runs.

A protocol (`protocols`, `transfer`) plans the runs (`plans`); `running.make_experiment` makes them.
"""
