"""How a loss is made: derivatives, checks, masks, reductions; it knows no loss."""
