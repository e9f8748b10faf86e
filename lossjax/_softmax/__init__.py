"""The engine of the logits: row statistics, their closed set of derivatives, and the one rule of the softmax losses."""
