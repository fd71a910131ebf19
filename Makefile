.PHONY: help
help:
	@echo stub
