"""One folder a question. ``python -m benchmarks.<name>.run`` answers it and writes ``benchmarks/<name>/card.json``."""
