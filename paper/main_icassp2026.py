"""features/ → one corpus: training, or the ablation → results JSON."""

from _original import main
from _original.training import in_domain

if __name__ == "__main__":
    raise SystemExit(main(in_domain))
