"""source model → a few target utterances → results JSON."""

from _original import main
from _original.training import fewshot

if __name__ == "__main__":
    raise SystemExit(main(fewshot))
