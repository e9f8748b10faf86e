"""Why the losses are true: the closed forms of everything that is not a softmax of logits, one file per subject."""
