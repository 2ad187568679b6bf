"""corpus folder → Utterances, one file per corpus; CORPORA is the registry."""
