"""CREMA-D, MELD → features/{CREMAD,MELD}_emotion2vec_{train,val,test}.pkl."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _original import main
from _original.extraction import cross_dataset

if __name__ == "__main__":
    raise SystemExit(main(cross_dataset))
