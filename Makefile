.PHONY: proto
proto:
	@.venv/bin/python scripts/generate_protos.py
