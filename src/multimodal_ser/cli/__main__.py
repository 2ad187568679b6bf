"""`python -m multimodal_ser.cli` is `ser`."""

from multimodal_ser.cli import main

raise SystemExit(main())
