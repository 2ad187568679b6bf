"""source model → target → results JSON."""

from _original import main
from _original.training import finetune

if __name__ == "__main__":
    raise SystemExit(main(finetune))
