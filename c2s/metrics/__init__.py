"""Truth and prediction in, measures out: annotations, text answers, generated cells, embeddings."""
