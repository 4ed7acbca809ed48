"""Values, errors and small rules that every other package builds on."""
