"""source and target features → domain adaptation → results JSON."""

from _original import main
from _original.training import adaptation

if __name__ == "__main__":
    raise SystemExit(main(adaptation))
