"""`python -m multimodal_ser` is `ser`."""

from multimodal_ser.cli import main

raise SystemExit(main())
